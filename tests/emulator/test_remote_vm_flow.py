"""Train on a remote VM, as Microsoft's notebooks do it with azureml-core: with nothing of ours in the way.

After "train-on-remote-vm" of the public MachineLearningNotebooks: attach the VM, describe the environment, submit,
wait while the log shows, read metrics, register the best model, download it, and let go of the VM.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from testbed.vm import Vm
from tests.emulator import executing, support

pytestmark = [pytest.mark.long(0.35), pytest.mark.needs("vm")]

TRAIN = """
import os
import pickle

import numpy as np
from azureml.core.run import Run
from mylib import get_alphas

os.makedirs('./outputs', exist_ok=True)
rows = np.random.RandomState(0)
X = rows.normal(size=(200, 5))
y = X @ np.arange(1.0, 6.0) + rows.normal(size=200)
train, test = slice(0, 160), slice(160, 200)

run = Run.get_context()
for alpha in get_alphas():
    coefficients = np.linalg.solve(X[train].T @ X[train] + alpha * np.eye(5), X[train].T @ y[train])
    mse = float(np.mean((X[test] @ coefficients - y[test]) ** 2))
    run.log('alpha', alpha)
    run.log('mse', mse)
    model_file_name = 'ridge_{0:.2f}.pkl'.format(alpha)
    with open('outputs/' + model_file_name, 'wb') as file:
        pickle.dump(coefficients.tolist(), file)
    print('alpha is {0:.2f}, and mse is {1:0.2f}'.format(alpha, mse))
"""
LIBRARY = "def get_alphas():\n    return [0.0, 10.0, 1000.0]\n"

FLOW = """
from azureml.core import Environment, Experiment, ScriptRunConfig
from azureml.core.compute import ComputeTarget, RemoteCompute
from azureml.core.compute_target import ComputeTargetException
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.model import Model

ws = connect()
experiment = Experiment(workspace=ws, name='train-on-remote-vm')

try:
    attached_dsvm_compute = RemoteCompute(workspace=ws, name='cpudsvm')
except ComputeTargetException:
    attach_config = RemoteCompute.attach_configuration(
        resource_id=given['vm'], ssh_port=22, username='edgetrain', private_key_file=given['key'])
    attached_dsvm_compute = ComputeTarget.attach(workspace=ws, name='cpudsvm', attach_configuration=attach_config)
    attached_dsvm_compute.wait_for_completion(show_output=True)

conda_env = Environment('conda-env')
conda_env.python.conda_dependencies = CondaDependencies.create(
    conda_packages=['numpy'], pip_packages=['azureml-core==1.61.0.post4'])
src = ScriptRunConfig(source_directory=given['folder'], script='train.py', compute_target=attached_dsvm_compute,
                      environment=conda_env)
run = experiment.submit(config=src)
run.wait_for_completion(show_output=True)

metrics = run.get_metrics()
best = min(zip(metrics['mse'], metrics['alpha']))[1]
path = 'outputs/ridge_{0:.2f}.pkl'.format(best)
model = run.register_model(model_name='best_ridge_model', model_path=path, tags={'alpha': str(best)})
Model(ws, name='best_ridge_model').download(target_dir='downloaded', exist_ok=True)
answer = {
    'status': run.get_status(),
    'metrics': metrics,
    'files': run.get_file_names(),
    'model': [model.name, model.version, model.run_id == run.id],
    'best': best,
    'listed': [[found.name, found.tags] for found in Model.list(ws, run_id=run.id)],
    'runs': [found.id == run.id for found in experiment.get_runs()],
    'target': run.get_details()['target'],
}
attached_dsvm_compute.detach()
"""


@pytest.mark.parametrize("topology", ["A", "B"])
def test_train_on_remote_vm(topology: str, tmp_path: Path, vm: Vm) -> None:
    """By the service's own names through the proxy, and as a cloud of its own."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "train.py").write_text(TRAIN, encoding="utf-8")
    (code / "mylib.py").write_text(LIBRARY, encoding="utf-8")
    home = tmp_path / "home"
    with executing.emulator(tmp_path, hosts=executing.hosts(vm)) as running:
        given = {"vm": executing.VM, "key": str(vm.private_key), "folder": str(code)}
        answer: dict[str, Any] = support.outside(running, topology, FLOW, home, **given)
        support.check(running)
    assert answer["status"] == "Completed"
    assert answer["metrics"]["alpha"] == [0.0, 10.0, 1000.0]
    assert len(answer["metrics"]["mse"]) == 3
    assert {"outputs/ridge_0.00.pkl", "outputs/ridge_1000.00.pkl", "user_logs/std_log.txt"} <= set(answer["files"])
    assert answer["model"] == ["best_ridge_model", 1, True]
    assert answer["listed"] == [["best_ridge_model", {"alpha": str(answer["best"])}]]
    assert answer["runs"] == [True]
    assert answer["target"] == "cpudsvm"
    (downloaded,) = (home / "downloaded").rglob("*.pkl")
    assert len(pickle.loads(downloaded.read_bytes())) == 5
