#!/bin/bash
# Refuses, on the site's runner, every job but those of the protected branch's own workflows. Whoever may push a branch
# may bring a workflow with it that asks for this runner: it ends here, before its first step.
#
# The runner starts it before each job, by these lines of its unit's environment (not of any repository):
#   ACTIONS_RUNNER_HOOK_JOB_STARTED=/usr/local/lib/edgetrain/job-started.sh
#   EDGETRAIN_REPOSITORY=owner/name
#   EDGETRAIN_BRANCH=main
set -euo pipefail

# A hook that fails is a step that failed: steps with `if: always()` go on after it. So the process that would run them,
# which has started this one, is ended; the runner then tells that the job failed, and its unit starts anew.
end_worker() {
  [ "$(cat "/proc/$PPID/comm")" = Runner.Worker ] || return 0
  sleep "${GRACE:-5}" # so that what was said here reaches the job's log
  kill -KILL "$PPID"
}
trap '[ $? -eq 0 ] || end_worker' EXIT

repository="${EDGETRAIN_REPOSITORY:?the environment of the runner does not name the repository}"
ref="refs/heads/${EDGETRAIN_BRANCH:-main}"

refuse() {
  echo "::error title=edgetrain::this runner takes jobs of $repository at $ref alone, and this is $1"
  exit 1
}

[ "$GITHUB_REPOSITORY" = "$repository" ] || refuse "another repository's"
[ "$GITHUB_REF" = "$ref" ] || refuse "for another ref"
case "$GITHUB_EVENT_NAME" in
  push | schedule | workflow_dispatch) ;;
  *) refuse "for an event that outsiders may cause" ;;
esac
case "$GITHUB_WORKFLOW_REF" in
  "$repository"/.github/workflows/*"@$ref") ;;
  *) refuse "of a workflow from elsewhere" ;;
esac
