"""Run history as Microsoft's public notebooks use it, in a process of its own, with nothing of ours in the way.

After "logging-api", "manage-runs" and "train-within-notebook" of MachineLearningNotebooks, and the loop over
hyperparameters that they are all about. Training on a machine has a file of its own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azureml_emulator.server import RunningEmulator
from tests.emulator import support
from tests.emulator.history import ARC

LOGGING = """
import pathlib
from azureml.core import Experiment, Run

ws = connect()
experiment = Experiment(workspace=ws, name='logging-api-test')
run = experiment.start_logging(outputs=None, snapshot_directory=".")
run.log('Quantity', 0.1)
run.log_list('Fibonacci', [0, 1, 1, 2, 3, 5, 8])
for angle in range(4):
    run.log_row('Y over X', x=angle, y=angle * 0.5)
run.log_row('Cosine Wave', angle=1.0, cos=0.54)
run.log_table('Sine Wave', {'angle': [0, 1, 2], 'sine': [0.0, 0.84, 0.91]})
run.log_confusion_matrix(name='matrix', value={
    'schema_type': 'confusion_matrix', 'schema_version': 'v1',
    'data': {'class_labels': ['0', '1'], 'matrix': [[3, 1], [0, 4]]}})
pathlib.Path('myfile.txt').write_text('This is an artifact file')
run.upload_file(name='files/text.txt', path_or_stream='myfile.txt')
pathlib.Path('folder').mkdir()
for number in range(60):
    pathlib.Path('folder', f'part-{number}.txt').write_text(str(number))
run.upload_folder(name='outputs/parts', path='folder')
run.tag('quality', 'fantastic run')
run.complete()

fetched = Run(experiment, run.id)
metrics = fetched.get_metrics()
matrix = metrics.pop('matrix')
fetched.download_files(prefix='files', output_directory='downloaded')
fetched.download_files(prefix='outputs/parts', output_directory='downloaded')
answer = {
    'metrics': metrics,
    'matrix': matrix.startswith('aml://artifactId/'),
    'status': fetched.get_status(),
    'names': len(fetched.get_file_names()),
    'text': pathlib.Path('downloaded/files/text.txt').read_text(),
    'parts': len(list(pathlib.Path('downloaded/outputs/parts').iterdir())),
    'snapshot': bool(fetched.get_properties().get('ContentSnapshotId')),
}
"""

MANAGE = """
from azureml.core import Experiment, Run

ws = connect()
exp = Experiment(workspace=ws, name='notebook-run')
notebook_run = exp.start_logging(snapshot_directory=None)
notebook_run.log(name='message', value='Hello from run!')
before = notebook_run.get_status()
notebook_run.complete()
notebook_run.add_properties({'author': 'azureml-user'})
try:
    notebook_run.add_properties({'author': 'different-user'})
    immutable = False
except Exception as error:
    immutable = True
notebook_run.tag('quality', 'great run')
notebook_run.tag('quality', 'fantastic run')
notebook_run.tag('worth another look')

failed = exp.start_logging(snapshot_directory=None)
failed.fail()

with exp.start_logging(snapshot_directory=None) as parent_run:
    for count in range(3):
        with parent_run.child_run() as child:
            child.log(name='Hello from child run', value=count)
    loop = parent_run.create_children(count=5)
    for child in loop:
        child.log(name='Hello from loop', value=1)
        child.complete()
    try:
        with parent_run.child_run() as broken:
            raise ValueError('broken on purpose')
    except ValueError:
        pass

mistaken = exp.start_logging(snapshot_directory=None)
mistaken.cancel()

children = list(parent_run.get_children())
answer = {
    'before': before,
    'immutable': immutable,
    'message': notebook_run.get_metrics(),
    'tags': notebook_run.get_tags(),
    'by property and tag': [
        r.id == notebook_run.id
        for r in exp.get_runs(properties={'author': 'azureml-user'}, tags={'quality': 'fantastic run'})],
    'by tag': [r.id == notebook_run.id for r in exp.get_runs(tags='worth another look')],
    'no such': list(exp.get_runs(tags='never given')),
    'failed': failed.get_status(),
    'cancelled': mistaken.get_status(),
    'children': sorted(child.get_status() for child in children),
    'looped': sorted(m['Hello from child run'] for m in (c.get_metrics() for c in children)
                     if 'Hello from child run' in m),
    'roots': len(list(exp.get_runs())),
    'all': len(list(exp.get_runs(include_children=True))),
}
"""

WITHIN = """
import pathlib, pickle
from azureml.core import Experiment, Run
from azureml.core.model import Model

ws = connect()
experiment = Experiment(workspace=ws, name='train-within-notebook')
data = [(x, 3.0 * x + 1.0) for x in range(20)]
best = None
for alpha in (0.0, 0.5, 5.0):
    with experiment.start_logging(snapshot_directory=None) as run:
        run.log('alpha', alpha)
        xs, ys = zip(*data)
        mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
        slope = sum((x - mx) * (y - my) for x, y in data) / (sum((x - mx) ** 2 for x in xs) + alpha)
        mse = sum((my + slope * (x - mx) - y) ** 2 for x, y in data) / len(data)
        run.log('mse', mse)
        name = f'model_alpha_{alpha}.pkl'
        with open(name, 'wb') as file:
            pickle.dump(slope, file)
        run.upload_file(name='outputs/' + name, path_or_stream=name)

runs = {}
for found in experiment.get_runs():
    runs[found.id] = found.get_metrics()
best_id = min(runs, key=lambda one: runs[one]['mse'])
best_run = Run(experiment=experiment, run_id=best_id)
best_run.tag('Best Run')
# The client keeps a log of its own beside them.
names = [name for name in best_run.get_file_names() if name.startswith('outputs/')]
best_run.download_file(name=names[0], output_file_path='model.pkl')
model = best_run.register_model(model_name='best_model', model_path=names[0], tags={'area': 'toy'})
answer = {
    'alpha': runs[best_id]['alpha'],
    'names': names,
    'slope': round(pickle.loads(pathlib.Path('model.pkl').read_bytes()), 6),
    'found': [r.id == best_id for r in experiment.get_runs(tags='Best Run')],
    'model': [model.name, model.version, model.run_id == best_id],
    'listed': [m.name for m in Model.list(ws, run_id=best_id)],
}
"""

TRAIN = """
import argparse
from azureml.core import Run

parser = argparse.ArgumentParser()
parser.add_argument('--rate', type=float)
rate = parser.parse_args().rate
run = Run.get_context()
value = 10.0
for step in range(5):
    value -= rate * 2 * value
    run.log('loss', value * value)
    print('step', step, value)
run.log('rate', rate)
with open('outputs/value.txt', 'w') as file:
    file.write(str(value))
run.complete()
"""

LOOP = """
import pathlib, sys
from azureml.core import Environment, Experiment, Run, ScriptRunConfig
from azureml.core.compute import ComputeTarget, KubernetesCompute

ws = connect()
target = ComputeTarget.attach(
    ws, 'cluster1', KubernetesCompute.attach_configuration(resource_id=given['cluster'], namespace='ml'))
target.wait_for_completion()
Run._WAIT_COMPLETION_POLLING_INTERVAL_MIN = 0.2
Run._WAIT_COMPLETION_POLLING_INTERVAL_MAX = 0.5
pathlib.Path('src').mkdir()
pathlib.Path('src/train.py').write_text(given['train'])
env = Environment('user-managed-env')
env.python.user_managed_dependencies = True
env.python.interpreter_path = given['python']
experiment = Experiment(ws, 'tune-by-loop')
submitted = []
for rate in (0.9, 0.4, 0.1):
    src = ScriptRunConfig(source_directory='src', script='train.py', arguments=['--rate', rate],
                          compute_target=target, environment=env)
    submitted.append(experiment.submit(src, tags={'rate': str(rate)}))
for run in submitted:
    run.wait_for_completion(wait_post_processing=True)
best = min(submitted, key=lambda run: run.get_metrics()['loss'][-1])
best.download_file('outputs/value.txt', 'value.txt')
answer = {
    'states': [run.get_status() for run in submitted],
    'steps': [len(run.get_metrics()['loss']) for run in submitted],
    'best': best.get_metrics()['rate'],
    'value': float(pathlib.Path('value.txt').read_text()),
    'found': [run.id == submitted[1].id for run in experiment.get_runs(tags={'rate': '0.4'})],
    'snapshots': len({run.get_properties()['ContentSnapshotId'] for run in submitted}),
    'log': 'user_logs/std_log.txt' in best.get_file_names(),
}
"""


@pytest.mark.parametrize("topology", ["A", "B"])
def test_logging(emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    found = support.outside(emulator, topology, LOGGING, tmp_path / "notebook")
    assert found["metrics"] == {
        "Quantity": 0.1,
        "Fibonacci": [0, 1, 1, 2, 3, 5, 8],
        "Y over X": {"x": [0, 1, 2, 3], "y": [0.0, 0.5, 1.0, 1.5]},
        "Cosine Wave": {"angle": 1.0, "cos": 0.54},
        "Sine Wave": {"angle": [0, 1, 2], "sine": [0.0, 0.84, 0.91]},
    }
    assert (found["matrix"], found["status"], found["snapshot"]) == (True, "Completed", True)
    assert (found["names"], found["text"], found["parts"]) == (62, "This is an artifact file", 60)


@pytest.mark.parametrize("topology", ["A", "B"])
def test_managing_runs(emulator: RunningEmulator, tmp_path: Path, topology: str) -> None:
    assert support.outside(emulator, topology, MANAGE, tmp_path / "notebook") == {
        "before": "Running",
        "immutable": True,
        "message": {"message": "Hello from run!"},
        "tags": {"quality": "fantastic run", "worth another look": None},
        "by property and tag": [True],
        "by tag": [True],
        "no such": [],
        "failed": "Failed",
        "cancelled": "Canceled",
        "children": ["Completed"] * 8 + ["Failed"],
        "looped": [0, 1, 2],
        "roots": 4,
        "all": 13,
    }


def test_training_within_a_notebook(emulator: RunningEmulator, tmp_path: Path) -> None:
    assert support.outside(emulator, "A", WITHIN, tmp_path / "notebook") == {
        "alpha": 0.0,
        "names": ["outputs/model_alpha_0.0.pkl"],
        "slope": 3.0,
        "found": [True],
        "model": ["best_model", 1, True],
        "listed": ["best_model"],
    }


def test_hyperparameters_by_loop(make_emulator: Callable[..., RunningEmulator], tmp_path: Path) -> None:
    emulator = make_emulator()
    given: dict[str, Any] = {"cluster": ARC, "train": TRAIN, "python": sys.executable}
    found = support.outside(emulator, "A", LOOP, tmp_path / "notebook", **given)
    assert found["states"] == ["Completed"] * 3
    assert (found["steps"], found["best"], found["found"]) == ([5, 5, 5], 0.4, [True])
    assert found["value"] == pytest.approx(10 * 0.2**5)
    assert (found["snapshots"], found["log"]) == (1, True)
