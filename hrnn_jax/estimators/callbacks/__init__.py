"""What `fit` calls after each epoch: functions or objects that take an `Epoch`.

    def note(epoch):
        print(epoch.number, epoch.loss, epoch.metrics)

    model.fit(train, epochs=5, callbacks=[note, callbacks.CSV("out/losses.csv")])

A callback that returns True ends the training after the epoch. One with a method `close` is closed
when the training ends.
"""

from hrnn_jax.estimators.callbacks.early_stopping import EarlyStopping as EarlyStopping
from hrnn_jax.estimators.callbacks.print_and_csv import CSV as CSV
from hrnn_jax.estimators.callbacks.print_and_csv import Print as Print
from hrnn_jax.estimators.callbacks.tensorboard import TensorBoard as TensorBoard
from hrnn_jax.estimators.callbacks.trained_epoch import Callback as Callback
from hrnn_jax.estimators.callbacks.trained_epoch import Epoch as Epoch
from hrnn_jax.estimators.callbacks.trained_epoch import close as close
from hrnn_jax.estimators.callbacks.weights_and_biases import WeightsAndBiases as WeightsAndBiases
