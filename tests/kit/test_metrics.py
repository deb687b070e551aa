"""Metrics of all workers add up, survive a restart of their slot, and gauges die with their worker."""

import subprocess
import sys
from pathlib import Path

from dispatch.kit.metrics import Metrics, forget_slot

WORKER = """
import sys
from pathlib import Path
from dispatch.kit import metrics
metrics.use_slot(int(sys.argv[1]), Path(sys.argv[2]))
made = metrics.Metrics()
accepts = made.counter("accepts_total", "accepts", ["outcome"])
accepts.add("won", by=int(sys.argv[3]))
made.gauge("sockets", "open sockets").add(by=int(sys.argv[3]))
made.histogram("accept_seconds", "latency").observe(value=0.004)
sys.stdout.write(made.render().decode())
"""


def run_worker(slot: int, folder: Path, number: int) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", WORKER, str(slot), str(folder), str(number)], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_workers_add_up_and_a_restarted_slot_goes_on(tmp_path: Path) -> None:
    run_worker(0, tmp_path, 3)
    assert 'dispatch_accepts_total{outcome="won"} 7.0' in run_worker(1, tmp_path, 4)
    forget_slot(0, tmp_path)
    shown = run_worker(0, tmp_path, 5)  # slot 0 again, another process
    assert 'dispatch_accepts_total{outcome="won"} 12.0' in shown
    assert "dispatch_sockets 9.0" in shown  # 4 of slot 1 and 5 of the new slot 0: the dead worker's 3 are gone
    assert "dispatch_accept_seconds_count 3.0" in shown
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_one_process_alone_needs_no_folder() -> None:
    metrics = Metrics()
    positions = metrics.counter("positions_total", "positions", ["verdict"])
    positions.add("taken")
    positions.add("taken", by=2)
    positions.add("refused")
    metrics.gauge("depth", "queue").set(to=4)
    shown = metrics.render().decode().splitlines()
    assert 'dispatch_positions_total{verdict="taken"} 3.0' in shown
    assert 'dispatch_positions_total{verdict="refused"} 1.0' in shown
    assert "dispatch_depth 4.0" in shown
    assert positions.of("taken") is positions.of("taken")


def test_two_servers_in_one_process_do_not_share_numbers() -> None:
    one, two = Metrics(), Metrics()
    one.counter("x_total", "x").add()
    assert "dispatch_x_total" not in two.render().decode()
    two.counter("x_total", "x")
    assert "dispatch_x_total 0.0" in two.render().decode().splitlines()
