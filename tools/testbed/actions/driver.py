"""Plays GitHub Actions for one repository of the stand-in: events wake workflows, whose jobs run on the host."""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from testbed.actions import expressions
from testbed.actions.act import STEPS, Job, Machine, tool_cache
from testbed.actions.groups import Groups
from testbed.actions.run import Payload, Run, conclude, forked, head
from testbed.actions.workflow import FOLDER, SITE_LABEL, Ended, Workflow, changed, needs, workflows
from testbed.github.bare import Bare, GitFailed
from testbed.github.server import Event, GithubServer
from testbed.part import scratch_folder, until

USES = re.compile(r"uses: (?P<name>actions/(?P<action>[\w-]+)@[0-9a-f]{40})")
ENOUGH = 300.0  # seconds for what is under way; a deadline, not a wait


class Actions:
    """A context manager. What happens in the repository while it is open wakes workflows, as on GitHub.

    `packages` are environments that the setup action finds ready; `site` is added to the environment of the site's
    runner, which has `runners` jobs at once. `actions` are folders for actions, or called workflows, by
    `owner/name@ref`.
    """

    def __init__(
        self,
        server: GithubServer,
        repository: str,
        *,
        packages: Mapping[str, Path],
        site: Mapping[str, str] | None = None,
        runners: int = 1,
        variables: Mapping[str, str] | None = None,
        actions: Mapping[str, Path] | None = None,
    ) -> None:
        self.server, self.repository = server, repository
        self.variables = dict(variables or {})
        self.runs: list[Run] = []
        # Files of workflows that somebody turned off.
        self.disabled: set[str] = set()
        # Jobs in these environments wait until somebody lets them go on, as for a required reviewer.
        self.held: dict[str, threading.Event] = {}
        self._actions = dict(actions or {})
        self.folder = scratch_folder("actions")
        # One for all machines: what is in it is named by its content.
        self._tools = tool_cache(self.folder / "tools", packages)
        self._site = Machine(self.folder / "site", ca=server.ca, tools=self._tools, **(site or {}))
        self._runners = threading.BoundedSemaphore(runners)
        self._groups = Groups()
        self._seen = len(server.events())
        self._open = threading.Event()
        self._changed = threading.Condition()
        self._under_way = 0
        self.faults: list[str] = []
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    @property
    def home(self) -> Path:
        """The home of the site's runner."""
        return self._site.home

    @property
    def bare(self) -> Bare:
        """The repository itself."""
        return Bare(self.server.git_folder(self.repository))

    def __enter__(self) -> Self:
        self._open.set()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()
        self._watcher.join()
        for held in self.held.values():
            held.set()
        for run in self.runs:
            self._stop(run, "cancelled", at_once=True)
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, ENOUGH)
        for run in self.runs:
            for job in run.jobs.values():
                job.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # What people do on the page of Actions

    def dispatch(self, file: str, *, by: str, ref: str = "main", **inputs: str) -> Run:
        """`Run workflow` on a branch."""
        payload = {"inputs": inputs, "ref": f"refs/heads/{ref}", "workflow": f"{FOLDER}/{file}"}
        return self._begin_one(file, "workflow_dispatch", payload, ref, by)

    def schedule(self, file: str) -> Run:
        """Its hour has come."""
        return self._begin_one(file, "schedule", {"schedule": "*/10 * * * *"}, "main", "")

    def cancel(self, run: Run) -> None:
        """`Cancel workflow`."""
        self._stop(run, "cancelled")

    def kill(self, run: Run) -> None:
        """The power of the runners that have its jobs goes."""
        self._stop(run, "failure", at_once=True)

    def rerun(self, run: Run) -> Run:
        """`Re-run all jobs`: the same event and the same commit again."""
        attempt = self.server.rerun_workflow(self.repository, run.id)
        again = Run(run.id, run.workflow, run.event, run.payload, run.commit, run.ref, run.actor, attempt=attempt)
        self._start(again)
        return again

    def wait(self, run: Run, deadline: float = ENOUGH) -> Run:
        """Until it has ended."""
        with self._changed:
            if not self._changed.wait_for(lambda: run.conclusion, deadline):
                raise TimeoutError(f"{run.file} has not ended\n{run.log}")
        return run

    def settle(self, deadline: float = ENOUGH) -> None:
        """Until every event has been seen and nothing runs. Raises what went wrong in the driver itself."""
        until(self._idle, "the workflows to end", deadline)
        if self.faults:
            raise RuntimeError("\n".join(self.faults))

    def _idle(self) -> bool:
        with self._changed:
            return bool(self.faults) or (not self._under_way and self._seen >= len(self.server.events()))

    def of(self, file: str) -> list[Run]:
        """The runs of a workflow, oldest first."""
        return [run for run in self.runs if run.file == file]

    # What GitHub does

    def _watch(self) -> None:
        while self._open.is_set():
            if not self.server.wait_for_event(self._seen, 0.2):
                continue
            for event in self.server.events(self._seen):
                with contextlib.ExitStack() as seen:
                    seen.callback(self._see, event.number)
                    if event.repository.lower() == self.repository.lower() and event.wakes:
                        self._guarded(self._wake, event)

    def _see(self, number: int) -> None:
        with self._changed:
            self._seen = number

    def _guarded(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception:
            with self._changed:
                self.faults.append(traceback.format_exc())
                self._changed.notify_all()

    def _wake(self, event: Event) -> None:
        payload = event.payload
        actor = str(payload["sender"]["login"])
        if event.name == "push" and payload["ref"].startswith("refs/heads/") and not payload["deleted"]:
            commit, ref = payload["after"], payload["ref"]
            touched = changed(self.bare, payload["before"], commit)
        elif event.name == "pull_request":
            number, head = payload["number"], payload["pull_request"]["head"]["sha"]
            ref = f"refs/pull/{number}/merge"
            merge = self.bare.resolve(ref)
            if merge is None:
                return  # it conflicts with its base
            commit = merge
            touched = changed(self.bare, self.bare.merge_base(payload["pull_request"]["base"]["sha"], head), head)
        elif event.name == "workflow_run":
            branch = payload["repository"]["default_branch"]
            commit, ref, touched = str(self.bare.branch(branch)), f"refs/heads/{branch}", []
        else:
            return
        for workflow in workflows(self.bare, commit):
            if workflow.file not in self.disabled and workflow.woken(event.name, payload, touched):
                self._begin(workflow, event.name, payload, commit, ref, actor)

    def _begin_one(self, file: str, event: str, payload: Payload, branch: str, actor: str) -> Run:
        commit = self.bare.branch(branch)
        if commit is None:
            raise LookupError(f"no branch {branch}")
        [workflow] = [one for one in workflows(self.bare, commit) if one.file == file]
        if event not in workflow.on:
            raise LookupError(f"{file} does not know {event}")
        payload = {**payload, "repository": {"default_branch": "main", "full_name": self.repository}}
        return self._begin(workflow, event, payload, commit, f"refs/heads/{branch}", actor)

    def _begin(self, workflow: Workflow, event: str, payload: Payload, commit: str, ref: str, actor: str) -> Run:
        head, branch, source = commit, ref.removeprefix("refs/heads/"), self.repository
        if event == "pull_request":
            of_pull = payload["pull_request"]["head"]
            head, branch, source = of_pull["sha"], of_pull["ref"], of_pull["repo"]["full_name"]
        number = self.server.add_workflow_run(
            self.repository,
            workflow=workflow.name,
            path=f"{FOLDER}/{workflow.file}",
            event=event,
            head=head,
            branch=branch,
            head_repository=source,
            status="queued",
            actor=actor,
        )
        run = Run(number, workflow, event, payload, commit, ref, actor)
        self._start(run)
        return run

    def _start(self, run: Run) -> None:
        with self._changed:
            self.runs.append(run)
            self._under_way += 1
        threading.Thread(target=self._ended, args=(run,), daemon=True).start()

    def _ended(self, run: Run) -> None:
        try:
            self._guarded(self._run, run)
        finally:
            conclusion = run.stopped or conclude(run)
            self.server.finish_workflow_run(self.repository, run.id, conclusion)
            with self._changed:
                run.conclusion = conclusion
                self._under_way -= 1
                self._changed.notify_all()

    def _run(self, run: Run) -> None:
        with self._place(run, run.workflow.data.get("concurrency"), {}) as had:
            if not had:
                run.stopped = run.stopped or "cancelled"
                return
            self.server.start_workflow_run(self.repository, run.id)
            for stage in run.workflow.stages():
                threads = [
                    threading.Thread(target=self._guarded, args=(self._job, run, name), daemon=True)
                    for name in stage
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()

    @contextlib.contextmanager
    def _place(self, run: Run, asked: Any, contexts: Mapping[str, Any]) -> Iterator[bool]:
        """A place in the concurrency group that is asked for; whether it was had."""
        if not asked:
            yield not run.stopped
            return
        block = {"group": asked} if isinstance(asked, str) else asked
        name = expressions.interpolate(str(block["group"]), {**self._contexts(run), **contexts})

        def cancel() -> None:
            self._stop(run, "cancelled")

        place = self._groups.enter(name, run, cancel, bool(block.get("cancel-in-progress")))
        try:
            yield place is not None and not run.stopped
        finally:
            if place is not None:
                self._groups.leave(name, place)

    def _contexts(self, run: Run) -> dict[str, Any]:
        github = {
            "event": run.payload,
            "event_name": run.event,
            "ref": run.ref,
            "ref_name": run.ref.split("/", 2)[2],
            "repository": self.repository,
            "workflow": run.workflow.name,
        }
        return {"github": github, "inputs": run.payload.get("inputs", {}), "vars": self.variables}

    def _job(self, run: Run, name: str) -> None:
        asked = run.workflow.jobs[name]
        before = {one: run.results[one] for one in needs(asked)}
        contexts = {
            **self._contexts(run),
            "needs": {one: {"outputs": ended.outputs, "result": ended.result} for one, ended in before.items()},
        }
        result = Ended("skipped")
        condition = str(asked.get("if", "true")).removeprefix("${{").removesuffix("}}")
        if all(one.result == "success" for one in before.values()) and expressions.evaluate(condition, contexts):
            with self._place(run, asked.get("concurrency"), contexts) as had:
                result = self._on_runner(run, name, asked, contexts, before) if had else Ended("cancelled")
        run.results[name] = result
        if result.result != "skipped":
            self.server.checks.add(self.repository, head(run), asked.get("name", name), result.result, run=run.id)

    def _on_runner(
        self,
        run: Run,
        name: str,
        asked: Mapping[str, Any],
        contexts: Mapping[str, Any],
        before: Mapping[str, Ended],
    ) -> Ended:
        environment = expressions.value(asked.get("environment", ""), contexts)
        if environment in self.held:
            self.held[environment].wait(ENOUGH)
        on_site = any(SITE_LABEL in labels for labels in self._labels(asked, contexts))
        with self._runners if on_site else contextlib.nullcontext():
            if run.stopped:
                return Ended("cancelled")
            machine = self._site if on_site else self._fresh(run, name)
            job = self._made(run, name, machine, before)
            run.jobs[name] = job
            result = job.run()
        if run.stopped:
            return Ended(run.stopped)
        if result == "skipped":
            raise RuntimeError(f"act did not run {run.file}: {name}\n{job.log.text}")
        for artifact, data in job.artifacts().items():
            self.server.upload_artifact(self.repository, run.id, artifact, data)
        return Ended(result, job.outputs())

    def _labels(self, asked: Mapping[str, Any], contexts: Mapping[str, Any]) -> list[Any]:
        """The labels of the runner that a job asks for; those of all its jobs, if it calls a workflow."""
        if "uses" not in asked:
            return [expressions.value(asked["runs-on"], contexts)]
        name, _, ref = asked["uses"].partition("@")
        owner, repository, path = name.split("/", 2)
        file = self._actions[f"{owner}/{repository}@{ref}"] / path
        called = Workflow(file.name, file.read_text(encoding="utf-8"))
        inputs = {**contexts, "inputs": asked.get("with", {})}
        return [label for job in called.jobs.values() for label in self._labels(job, inputs)]

    def _fresh(self, run: Run, name: str) -> Machine:
        """A machine of GitHub's: nobody had it before."""
        folder = self.folder / f"hosted-{run.id}-{run.attempt}-{name}"
        return Machine(folder, ca=self.server.ca, tools=self._tools)

    def _made(self, run: Run, name: str, machine: Machine, before: Mapping[str, Ended]) -> Job:
        asked = run.workflow.jobs[name]
        rights = asked.get("permissions", run.workflow.data.get("permissions", {"contents": "read"})) or {}
        if run.event == "pull_request" and forked(run.payload):
            rights = dict.fromkeys(rights, "read")
        context = {
            "GITHUB_SERVER_URL": self.server.url,
            "GITHUB_API_URL": self.server.api,
            "GITHUB_REPOSITORY": self.repository,
            "GITHUB_RUN_ID": str(run.id),
            "GITHUB_RUN_ATTEMPT": str(run.attempt),
            "GITHUB_ACTOR_ID": str(self.server.account_id(run.actor)) if run.actor else "",
            "GITHUB_REF": run.ref,
            "SHA_REF": run.commit,
            "GITHUB_WORKFLOW_REF": f"{self.repository}/{FOLDER}/{run.file}@{run.ref}",
        }
        return Job(
            machine,
            name,
            workflow=lambda told: run.workflow.alone(name, before, run.event, told),
            event=run.event,
            payload=run.payload,
            token=self.server.job_token(
                self.repository, {right.replace("-", "_"): level for right, level in rights.items()}
            ),
            context=context,
            actor=run.actor or "github-actions[bot]",
            variables=self.variables,
            actions={**self._stand_ins(run.commit), **self._actions},
            before=before,
            called={f"{FOLDER}/{one.file}": one.text for one in workflows(self.bare, run.commit)},
        )

    def _stand_ins(self, commit: str) -> dict[str, Path]:
        """A folder of ours for each action of GitHub's that a workflow or an action names."""
        texts = []
        for at in (commit, "main"):
            with contextlib.suppress(GitFailed):  # there may be none
                texts.append(self.bare.git("grep", "-h", "uses: actions/", at, "--", ".github"))
        for folder in self._actions.values():
            texts += [file.read_text(encoding="utf-8") for file in folder.glob(".github/*/**/*.yml")]
        found = {match["name"]: STEPS / match["action"] for text in texts for match in USES.finditer(text)}
        return {name: folder for name, folder in found.items() if folder.is_dir()}

    def _stop(self, run: Run, how: str, at_once: bool = False) -> None:
        if run.conclusion:
            return
        run.stopped = how
        self._groups.withdraw(run)
        for job in list(run.jobs.values()):
            job.kill() if at_once else job.cancel()
