"""The flags that describe a model, its training and its evaluation, and the configs they make."""

from __future__ import annotations

import numpy as np
from absl import flags

from hrnn_jax import errors, evaluation, losses, model, row_optimizer, train
from hrnn_jax.baselines import session_knn, sparse_ranking
from hrnn_jax.extras import item_neighbours

BASELINES = ("ppop", "item_knn", "markov", "sr", "vsknn", "vsknn_br")
MODELS = (*model.VARIANTS, *BASELINES)
NAMES = {
    "rnn": "RNN",
    "rnn_concat": "RNN Concat",
    "hrnn_init": "HRNN Init",
    "hrnn_all": "HRNN All",
    "ppop": "PPOP",
    "item_knn": "Item-KNN",
    "markov": "Markov",
    "sr": "SR",
    "vsknn": "V-SKNN",
    "vsknn_br": "V-SKNN_BR",
}
# Of the models that have any, unless --neighbours says otherwise.
NEIGHBOURS = {"item_knn": 300, "vsknn": 100, "vsknn_br": 100}

FLAGS = flags.FLAGS
flags.DEFINE_enum(
    "model",
    "hrnn_init",
    MODELS,
    "Which model to run: those of Section 4.2, markov, sr, vsknn or vsknn_br.",
)
flags.DEFINE_integer(
    "hidden_units", 100, "Units of each GRU, 100 for small and 500 for large.", lower_bound=1
)
flags.DEFINE_integer("layers", 1, "How many session GRUs are stacked.", lower_bound=1)
flags.DEFINE_enum(
    "user_input",
    "full",
    model.USER_INPUTS,
    "What of GRU_ses sees the user in HRNN All: full is Eq. 5, gates is the authors' code.",
)
flags.DEFINE_enum(
    "embedding",
    "none",
    model.EMBEDDINGS,
    "What is fed of an item: its one-hot vector (none), an embedding of its own (separate), or its "
    "output row (tied).",
)
for _name, _of in (
    ("embedding", "an item's embedding"),
    ("user", "GRU_usr's output"),
    ("session", "GRU_ses' output"),
    ("init", "the session's initialisation (Eq. 4)"),
):
    flags.DEFINE_float(
        f"dropout_{_name}",
        0.0,
        f"Probability with which a unit of {_of} is dropped in training.",
        lower_bound=0.0,
        upper_bound=0.99,
    )
flags.DEFINE_bool(
    "init_gate", False, "Whether Eq. 4 passes a gate that starts nearly closed; HRNNs only."
)
flags.DEFINE_bool(
    "idle_gap", False, "Whether the time since the user's event before is an input as well."
)
flags.DEFINE_integer(
    "past",
    0,
    "How many different items of a user's past get a learned bonus, last ones first.",
    lower_bound=0,
)
flags.DEFINE_enum("loss", "top1", losses.NAMES, "Training loss; all but the last are sampled.")
flags.DEFINE_enum(
    "activation",
    None,
    sorted(losses.ACTIVATIONS),
    "Of the output, before the loss; by default tanh for top1, bpr and top1_max, elu for bpr_max, "
    "linear for the others.",
)
flags.DEFINE_float(
    "regularisation", 0.0, "Weight of bpr_max' penalty on its negatives' scores.", lower_bound=0.0
)
flags.DEFINE_integer(
    "extra_negatives",
    0,
    "Items drawn for each update as negatives of all lanes, beside their targets; sampled losses.",
    lower_bound=0,
)
flags.DEFINE_float(
    "negative_alpha",
    0.75,
    "Extra negatives are drawn by their training events to this power: 0 draws all alike.",
    lower_bound=0.0,
)
flags.DEFINE_bool(
    "mask_false_negatives",
    False,
    "Whether what is a lane's own target is none of its negatives; sampled losses.",
)
flags.DEFINE_float(
    "negative_hours",
    0.0,
    "Only items that are on offer are negatives of a target: from their first training event to "
    "their last, and so many hours before and after. 0: all items are.",
    lower_bound=0.0,
    upper_bound=1e6,
)
flags.DEFINE_bool(
    "log_q",
    False,
    "Whether --loss=cross_entropy corrects for how often each item is expected as a candidate, so "
    "that it estimates the softmax over the catalogue.",
)
flags.DEFINE_enum(
    "optimizer", "adagrad", sorted(row_optimizer.OPTIMIZERS), "Elementwise optax optimizer."
)
flags.DEFINE_float("learning_rate", 0.1, "Step size of the optimizer.", lower_bound=0.0)
flags.DEFINE_enum(
    "schedule", "constant", train.SCHEDULES, "How the learning rate falls to 0, if it does."
)
flags.DEFINE_integer(
    "schedule_epochs",
    None,
    "Epochs until it has fallen to 0; --epochs if none are given.",
    lower_bound=1,
)
flags.DEFINE_float(
    "warmup", 0.0, "Epochs in which the learning rate first rises from 0.", lower_bound=0.0
)
flags.DEFINE_float("clip", 0.0, "Largest norm of an update's gradient, 0 for any.", lower_bound=0.0)
flags.DEFINE_float(
    "weight_decay",
    0.0,
    "How much of a weight an update takes away, in parts of the learning rate; an item's rows lose "
    "it when they are updated, biases never.",
    lower_bound=0.0,
)
flags.DEFINE_float("momentum", 0.0, "Classical momentum.", lower_bound=0.0, upper_bound=0.999)
flags.DEFINE_integer("batch_size", 50, "Users, or sessions of RNN, side by side.", lower_bound=1)
flags.DEFINE_integer(
    "bptt_steps", 1, "Steps that one update unrolls and sends its gradient through.", lower_bound=1
)
flags.DEFINE_bool(
    "feed_last_item", False, "Also feed a session's last item, so that the user's GRU sees it."
)
flags.DEFINE_enum(
    "mean_over",
    "valid",
    train.MEANS,
    "What lanes an update's loss is the mean over: those that have a target, so that the few left "
    "in an epoch's last steps weigh more each, or all of the batch.",
)
flags.DEFINE_integer("epochs", 10, "Passes over the training events.", lower_bound=0)
flags.DEFINE_list("seeds", ["0"], "Seeds to train, whole numbers; each is a run of its own.")
flags.DEFINE_integer(
    "seeds_at_once", 1, "Seeds trained side by side in one program.", lower_bound=1
)
flags.DEFINE_integer(
    "neighbours",
    None,
    "Similar items that Item-KNN keeps of each item, 300 by default; similar sessions whose items "
    "V-SKNN and V-SKNN_BR score, 100 by default; of a network, items nearest to each of the "
    "session's last ones whose scores gain by it, none by default.",
    lower_bound=0,
)
flags.DEFINE_float(
    "neighbours_weight",
    model.Config.neighbours_weight,
    "By how much the scores of a network's --neighbours gain.",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "sample_size",
    1000,
    "Most recent sessions with a shared item that V-SKNN and V-SKNN_BR choose neighbours from.",
    lower_bound=1,
)
flags.DEFINE_float(
    "boost",
    0.5,
    "By how much of itself the similarity of the user's own sessions grows in V-SKNN_BR.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "remind_weight",
    0.5,
    "What V-SKNN_BR adds at most for the user's last six sessions, in parts of the largest score.",
    lower_bound=0.0,
)
flags.DEFINE_list("cutoffs", ["5"], "Lengths N of the recommendation lists to measure.")
flags.DEFINE_enum(
    "ties",
    "against",
    sparse_ranking.TIES,
    "For or against the model do items of equal score count.",
)
flags.DEFINE_integer(
    "candidates",
    None,
    "Rank the target among this many most supported items; among all by default.",
    lower_bound=1,
)


def model_config(n_items: int) -> model.Config:
    """Return the network that the flags describe; what a variant does not have is left out."""
    personal = {}
    if FLAGS.model.startswith("hrnn"):
        personal = {
            "dropout_user": FLAGS.dropout_user,
            "dropout_init": FLAGS.dropout_init,
            "init_gate": FLAGS.init_gate,
        }
    if FLAGS.model == "hrnn_all":
        personal["user_input"] = FLAGS.user_input
    if FLAGS.neighbours:
        personal["neighbours_weight"] = FLAGS.neighbours_weight
    return model.Config(
        n_items=n_items,
        variant=FLAGS.model,
        hidden_units=FLAGS.hidden_units,
        layers=FLAGS.layers,
        idle_gap=FLAGS.idle_gap,
        embedding=FLAGS.embedding,
        dropout_embedding=FLAGS.dropout_embedding,
        dropout_session=FLAGS.dropout_session,
        past=FLAGS.past,
        neighbours=FLAGS.neighbours or 0,
        **personal,
    )


def training_config() -> train.Config:
    """Return how the flags say to train. Raises InputError where they contradict each other."""
    decays = FLAGS.schedule != "constant"
    config = train.Config(
        loss=FLAGS.loss,
        activation=FLAGS.activation,
        regularisation=FLAGS.regularisation,
        extra_negatives=FLAGS.extra_negatives,
        negative_alpha=FLAGS.negative_alpha if FLAGS.extra_negatives else 0.75,
        mask_false_negatives=FLAGS.mask_false_negatives,
        negative_hours=FLAGS.negative_hours,
        log_q=FLAGS.log_q,
        optimizer=FLAGS.optimizer,
        learning_rate=FLAGS.learning_rate,
        schedule=FLAGS.schedule,
        schedule_epochs=(FLAGS.schedule_epochs or FLAGS.epochs) if decays else 0,
        warmup=FLAGS.warmup,
        clip=FLAGS.clip,
        weight_decay=FLAGS.weight_decay,
        momentum=FLAGS.momentum,
        batch_size=FLAGS.batch_size,
        bptt_steps=FLAGS.bptt_steps,
        feed_last_item=FLAGS.feed_last_item,
        mean_over=FLAGS.mean_over,
    )
    if config.batch_size == 1 and config.loss in losses.SAMPLED and not config.extra_negatives:
        raise errors.InputError(
            f"--batch_size=1 leaves --loss={config.loss} without negatives: take 2 or more, "
            "--extra_negatives, or --loss=full_softmax"
        )
    # What a flag would do for another loss only, said rather than ignored.
    for flag, given, losses_ in (
        ("activation", config.activation is not None, losses.SAMPLED),
        ("regularisation", config.regularisation > 0, ("bpr_max",)),
        ("extra_negatives", config.extra_negatives > 0, losses.SAMPLED),
        ("mask_false_negatives", config.mask_false_negatives, losses.SAMPLED),
        ("log_q", config.log_q, ("cross_entropy",)),
    ):
        if given and config.loss not in losses_:
            raise errors.InputError(
                f"--{flag} means nothing to --loss={config.loss}: drop it, or take "
                f"--loss={' or '.join(losses_)}"
            )
    if FLAGS.model in model.VARIANTS and FLAGS.neighbours and not FLAGS.past:
        raise errors.InputError(
            f"--neighbours={FLAGS.neighbours} looks at the last items of the session, which "
            f"--past holds: give --past={item_neighbours.LAST} or more, or --neighbours=0"
        )
    if FLAGS.dropout_embedding and FLAGS.embedding == "none":
        raise errors.InputError(
            "--dropout_embedding needs embeddings: take --embedding=separate or tied"
        )
    train.transform(config)
    return config


def evaluation_config() -> evaluation.Config:
    """Return how the flags say to rank."""
    return evaluation.Config(ties=FLAGS.ties, feed_last_item=FLAGS.feed_last_item)


def neighbours() -> int:
    """Return --neighbours, or what the model has by default: it must be in `NEIGHBOURS`.

    Raises InputError for 0.
    """
    if FLAGS.neighbours == 0:
        raise errors.InputError(
            f"--neighbours=0 leaves --model={FLAGS.model} nothing: give 1 or more"
        )
    return NEIGHBOURS[FLAGS.model] if FLAGS.neighbours is None else FLAGS.neighbours


def session_knn_config() -> session_knn.Config:
    """Return the session-kNN that the flags describe; V-SKNN does not know the user."""
    personal = {}
    if FLAGS.model == "vsknn_br":
        personal = {"boost": FLAGS.boost, "remind_weight": FLAGS.remind_weight}
    return session_knn.Config(neighbours=neighbours(), sample_size=FLAGS.sample_size, **personal)


def seeds() -> list[int]:
    """Return --seeds. Raises InputError unless they are distinct whole numbers."""
    return whole_numbers("seeds", at_least=0)


def cutoffs() -> list[int]:
    """Return --cutoffs. Raises InputError unless they are distinct positive whole numbers."""
    return whole_numbers("cutoffs", at_least=1)


def candidates(support: np.ndarray) -> np.ndarray | None:
    """Return the --candidates most supported items, or None for all. support: [V] events."""
    if FLAGS.candidates is None or FLAGS.candidates >= len(support):
        return None
    return np.argsort(-support, kind="stable")[: FLAGS.candidates].astype(np.int32)


def whole_numbers(flag: str, *, at_least: int) -> list[int]:
    """Return a list flag as numbers. Raises InputError unless they are whole and distinct."""
    texts = FLAGS[flag].value
    numbers = [int(text) for text in texts if text.strip().isdecimal() and text.isascii()]
    if (
        not texts
        or len(set(numbers)) < len(texts)
        or not all(at_least <= number < 2**31 for number in numbers)
    ):
        raise errors.InputError(
            f"--{flag}={','.join(texts)}: give distinct whole numbers from {at_least}, as in 1,2,3"
        )
    return numbers
