from hrnn_jax.checkpoint import load_run as load_run
from hrnn_jax.config import DataConfig as DataConfig
from hrnn_jax.config import EvaluationConfig as EvaluationConfig
from hrnn_jax.config import ItemKnnConfig as ItemKnnConfig
from hrnn_jax.config import ModelConfig as ModelConfig
from hrnn_jax.config import RecommenderConfig as RecommenderConfig
from hrnn_jax.config import SessionKnnConfig as SessionKnnConfig
from hrnn_jax.config import TrainConfig as TrainConfig
from hrnn_jax.epoch import epoch_schedule as epoch_schedule
from hrnn_jax.epoch import run_epoch as run_epoch
from hrnn_jax.errors import DivergedError as DivergedError
from hrnn_jax.errors import InputError as InputError
from hrnn_jax.errors import StorageError as StorageError
from hrnn_jax.evaluation import rank as rank
from hrnn_jax.event_log import EventLog as EventLog
from hrnn_jax.live.events import Event as Event
from hrnn_jax.live.events import Request as Request
from hrnn_jax.live.recommender import Recommender as Recommender
from hrnn_jax.live.recommender import load_recommender as load_recommender
from hrnn_jax.metrics import Ranking as Ranking
from hrnn_jax.metrics import summarise as summarise
from hrnn_jax.train import init_state as init_state
from hrnn_jax.train import make_setup as make_setup

__version__: str
__all__: list[str]
