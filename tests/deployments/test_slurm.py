"""Slurm scripts, without Slurm: they parse, and ask for and hand on what they should."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest
from samples import ROOT, environment

from polylm.deployments.dask import slurm
from polylm.deployments.settings import Placement, Settings

FOLDER = ROOT / "deployments"
SETTINGS = {f"POLYLM_{name.upper()}" for model in (Settings, Placement) for name in model.model_fields}


def directives(script):
    return dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", script, re.MULTILINE))


def test_the_training_script_parses_and_asks_for_one_task_a_host():
    script = (FOLDER / "train.sbatch").read_text()
    subprocess.run(["bash", "-n", FOLDER / "train.sbatch"], check=True)
    assert directives(script)["nodes"] == "1"  # `sbatch --nodes 4` comes first; --ntasks=1 would make one of them
    assert "ntasks" not in directives(script)
    assert directives(script)["ntasks-per-node"] == "1"
    assert set(re.findall(r"\b(POLYLM_[A-Z_]+)", script)) <= SETTINGS


def run_script(tmp_path, body, *, told=0, **more):
    """The script with a `polylm` and a `scontrol` that say what they were given; told: how often Slurm's warning comes."""
    scontrol = '[ "$1" = show ] && printf "node1\\nnode2\\n" || echo "scontrol $*" >> "$SAID"'
    for name, text in {"polylm": body, "scontrol": scontrol}.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    own = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SAID": tmp_path / "said", "SLURM_GPUS_ON_NODE": 8}
    own |= {"SLURM_JOB_ID": 7, "POLYLM_STORE": "/data/store", "POLYLM_TENSOR_PARALLEL": 2, **more}
    (tmp_path / "said").touch()
    words = ["bash", FOLDER / "train.sbatch", "polylm_1_7b", "mine=a folder", "more=x"]
    running = subprocess.Popen(words, env=environment(**own))
    while told and "ready" not in (tmp_path / "said").read_text():
        assert running.poll() is None
    for _ in range(told):
        running.terminate()
        time.sleep(0.2)
    return running.wait(30), (tmp_path / "said").read_text()


def test_the_training_script_gives_the_hosts_gpus_to_the_run(tmp_path):
    code, said = run_script(tmp_path, 'printf "%s|" "$@" $POLYLM_DEVICES $POLYLM_DATA_PARALLEL >> "$SAID"; exit 3')
    assert code == 3
    assert said == "run|polylm_1_7b|--source|mine=a folder|--source|more=x|--no-prefect|8|4|"


def test_the_training_script_gives_every_host_of_the_job_to_the_run(tmp_path):
    body = 'printf "%s|" $POLYLM_HOSTS $POLYLM_LAUNCHER $POLYLM_PORT $POLYLM_DEVICES $POLYLM_DATA_PARALLEL >> "$SAID"'
    code, said = run_script(tmp_path, body, SLURM_JOB_NUM_NODES=2, SLURM_JOB_NODELIST="node[1-2]")
    assert code == 0
    assert said == "node1,node2|srun|20007|8|8|"


def test_the_training_script_hands_slurms_warning_on_and_queues_itself_again(tmp_path):
    body = 'trap \'echo ended >> "$SAID"; exit 143\' TERM; echo ready >> "$SAID"; while true; do sleep 0.1; done'
    code, said = run_script(tmp_path, body, told=1)
    assert code == 143
    assert said.splitlines() == ["ready", "ended", "scontrol requeue 7"]


def test_a_run_that_is_done_in_spite_of_the_warning_is_not_queued_again(tmp_path):
    body = 'trap \'echo done >> "$SAID"; exit 0\' TERM; echo ready >> "$SAID"; while true; do sleep 0.1; done'
    code, said = run_script(tmp_path, body, told=1)
    assert code == 0
    assert said.splitlines() == ["ready", "done"]


def test_a_second_warning_cuts_no_run_short_that_is_ending(tmp_path):
    body = """trap 'sleep 1; echo ended >> "$SAID"; exit 143' TERM; echo ready >> "$SAID"; while true; do sleep 0.1; done"""
    code, said = run_script(tmp_path, body, told=3)
    assert code == 143
    assert said.splitlines()[:2] == ["ready", "ended"]
    assert said.splitlines()[-1] == "scontrol requeue 7"


@pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="it is not installed: pip install 'polylm[dask]'")
def test_dask_workers_are_slurm_jobs_of_the_size_that_is_asked_for(tmp_path):
    before = signal.getsignal(signal.SIGINT)
    cluster = slurm(32, "64GB", "12:00:00", queue="cpu", account="lab", directives=["--exclusive"], logs=str(tmp_path))
    try:
        script = cluster.job_script()
    finally:
        cluster.close()
    assert signal.getsignal(signal.SIGINT) is before, "Ctrl-C means what it meant"
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for line in ("-p cpu", "-A lab", "--cpus-per-task=32", "--mem=60G", "-t 12:00:00", "--exclusive"):
        assert f"#SBATCH {line}" in script
    assert "export PYTHONSAFEPATH=1" in script
    worker = script.splitlines()[-1]
    assert worker.startswith(sys.executable)
    assert "--nthreads 32" in worker
