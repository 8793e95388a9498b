"""Where a run trains: on one device, or over the mesh of all devices of all its processes."""

from __future__ import annotations

import jax
from absl import flags

from hrnn_jax.network import ONE_DEVICE, OneDevice
from hrnn_jax.sharding import over_mesh, tables

from . import distributed

FLAGS = flags.FLAGS


def choose_devices() -> OneDevice:
    """Return where a run trains: over a mesh of several processes, or of lane groups and devices.

    Raises:
        InputError: what it trains is not trained over several devices.
    """
    found, groups, n_processes = jax.devices(), FLAGS.lane_groups, jax.process_count()
    if n_processes == 1 and (len(found) == 1 or groups == 1):
        if len(found) > 1:
            print(
                f"1 of {len(found)} devices trains: --lane_groups={len(found)}, or a multiple, "
                "trains over all"
            )
        return ONE_DEVICE
    if n_processes == 1:
        distributed.refuse_for_mesh(f"--lane_groups={groups} on {len(found)} devices")
    of_processes = f" of {n_processes} processes" if n_processes > 1 else ""
    print(f"training over {len(found)} devices{of_processes}", flush=True)
    return over_mesh.OverMesh(tables.make_mesh(found))
