"""Why an approval does not count, in the words that records keep."""

STALE, OWN, MACHINE, LATE = "StaleReview", "OwnPullRequest", "Machine", "AfterMerge"
