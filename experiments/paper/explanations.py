"""The texts of the report: what its tables show, and how to read them."""

from __future__ import annotations

from ..jobs.paper_rows import CODE_2017, EQUATIONS
from .numbers import ALPHA

INTRODUCTION = (
    "The tables and figures of Quadrana, Karatzoglou, Hidasi and Cremonesi (RecSys 2017), made by "
    "hrnn_jax. A model reads a session's events one after the other and ranks the items for the "
    "next one; the test cases are the events of each user's last session. Every number is read "
    "from the CSV files of the runs."
)
SIMULATED = (
    "SIMULATED events replace data that are not public: {}. Their numbers show that the program "
    "works, not how good a model is; they cannot be compared with the paper's."
)
LEAK = (
    "In the code that the authors published in June 2017, the leak of a session's first step is "
    "the state that the session before ended with, h' = (1 - z) h_carried + z c; in Eq. 1 and 4, "
    "and in their code since December 2018, it is h_0 of Eq. 4. The paper, with Table 2, appeared "
    "in the year of the former."
)
LEAK_FOUND = "Of the large HRNNs in these results, these did not train: {}."
LEAK_COMMAND = "make reproduce-table3 SEEDS=1 ROWS=hrnn_init_large,hrnn_init_2017_large"
FORMS = (
    f"{EQUATIONS}: Eq. 1 and 4. {CODE_2017}: the leak of the authors' code of June 2017. RNN and "
    "RNN Concat start no session from a user's state, so that both forms have the same: they stand "
    f"under {EQUATIONS}. HRNN All, Eq. 5: the user state enters all of GRU_ses, as in the paper; "
    "gates: the two gates alone, as in the authors' code."
)
MARKS = (
    "Mean ± sample standard deviation over n seeds; –: no run has ended. Bold: the best mean of "
    "its column, as printed.",
    "Italic: a network that differs significantly from RNN of its size, tuned as it is. "
    "Underlined: an HRNN that differs significantly from RNN Concat of its size. †: an HRNN All "
    "that does not differ significantly from HRNN Init of its size and form.",
    f"Significant: p < {ALPHA} in a two-sided Wilcoxon signed-rank test, paired over the test "
    "cases on each case's mean over seeds; Precision@5 is Recall@5 / 5 in each case and has its p. "
    "All p-values: significance.csv. The paper names the test and p < 0.01, not what is paired.",
)
STOPPED = (
    "Did not train: training was stopped by --stop_above_loss, after an epoch whose mean loss was "
    "above it; TOP1's loss of constant scores is 1."
)
GAIN_NOTE = (
    "Relative gain: the mean of one model divided by that of the other, minus 1; the paper's from "
    "its printed numbers. Precision@5 has the gain of Recall@5."
)
FURTHER_NOTE = (
    "MRR@1 is Recall@1 and Precision@N is Recall@N / N. Coverage: the share of the items that are "
    "recommended at least once. Popularity: the mean number of training events of the recommended "
    "items."
)
# By device: what it is called, and how its runs shared it.
COSTS = {
    "cpu": ("processors", "Means over the runs; each had one thread, and others ran beside it."),
    "gpu": (
        "GPUs",
        "Means over the runs; several shared the GPU. Of seeds that were trained side by side each "
        "counts with the time of all.",
    ),
}
COST_OF_PAPER = (
    "The paper, on one K80 GPU: from about 5 minutes (RNN small, XING) to about 30 minutes "
    "(HRNN All large, VIDEO)."
)
