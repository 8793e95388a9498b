"""The report's tables of other libraries, one for each log."""

from __future__ import annotations

from collections.abc import Mapping

from ...common.text import Spread
from ...rendering import markdown
from ..record import Row
from .compare import MEASURES, NAME
from .contenders import CONTENDERS, Ours

COMMAND = "make benchmark-peers"
NOTE = (
    "The models differ: events/s say what an epoch over the same events costs and nothing about "
    "what it learns. Reading and preparing the log is not timed, nor is what hrnn_plus has for its "
    "mixture: the counting of neighbours, and a second training without the last sessions. "
    "RecBole makes a sample of each event, with a history of its own; "
    "RecTools trains on the last events of each user at once; here each event is one step of its "
    "user's state. Their networks have 100 units and otherwise their libraries' defaults, with one "
    "exception: RecBole turns PyTorch's anomaly detection on for all models, and here it is off."
)


def compose(record: Mapping[str, Row]) -> list[markdown.Block]:
    """Lay out the rows of `compare`, by their names in the record."""
    logs = dict.fromkeys(name.split("/")[1] for name in record)
    if not logs:
        return []
    return [
        markdown.heading("Beside other libraries"),
        markdown.paragraph(
            "Each figure is the median of the turns, with the lowest and the highest value; in a "
            "turn all models run one after the other, each in a process with one core and one "
            "thread. The ratios are medians of the turns' ratios to the model named. Training is "
            "timed after a warm-up, which is an epoch here and 3 s there; ranking is all test "
            "cases among all items; memory is the peak of the whole process."
        ),
        markdown.paragraph(NOTE),
        *(_table(log, record) for log in logs),
    ]


def _table(log: str, record: Mapping[str, Row]) -> markdown.Table:
    cells: dict[str, dict[str, markdown.Cell]] = {measure: {} for measure in MEASURES}
    notes: dict[str, None] = {}
    # A record may be older than a contender.
    measured = [each for each in CONTENDERS if f"{NAME}/{log}/{each.key}/training" in record]
    for contender in measured:
        for measure in MEASURES:
            row = record[f"{NAME}/{log}/{contender.key}/{measure}"]
            note = ""
            if isinstance(contender, Ours) and contender.beside in measured:
                other = record[f"{NAME}/{log}/{contender.beside.key}/{measure}"]
                ratios = [o / p for o, p in zip(row.measured, other.measured, strict=True)]
                note = f"= {Spread(tuple(ratios)).median:.3g} x {contender.beside.name}"
            cells[measure][contender.key] = markdown.Cell(row.cells()[1], note=note)
            if row.notes:
                about_log, *about = row.notes
                notes |= {f"{about_log}.": None, f"{contender.name}: {'; '.join(about)}.": None}
    first = record[f"{NAME}/{log}/{measured[0].key}/training"]
    where = (
        "Measured on {machine}, commit {commit}, {finished:.10}, load {load}; ".format(**first.made)
        + f"turns: {len(first.measured)}."
    )
    return markdown.Table(
        caption=f"On {log}",
        corner="model",
        groups={"": cells},
        sections={"": {contender.key: contender.name for contender in CONTENDERS}},
        commands=[COMMAND],
        notes=[*notes, where],
    )
