"""Go on with a study: interrupted, to be extended, or complete but for a file."""

from __future__ import annotations

from hwtune.contract import RESUMED, About, lacking
from hwtune.errors import StudyError
from hwtune.pipeline.command import Command, Place
from hwtune.pipeline.extension import check_extension, extended_budget
from hwtune.pipeline.mending import mend_trials
from hwtune.pipeline.mirroring import complete_mirror, remirror
from hwtune.pipeline.reporting import page_completed
from hwtune.pipeline.search import run
from hwtune.pipeline.session import seconds_of_all, session_again
from hwtune.records import ranked
from hwtune.search.budget import Budget
from hwtune.search.journal import earlier_runs
from hwtune.search.settings import settings_of
from hwtune.study_folder import StudyFolder


def resume_search(
    folder: StudyFolder, *, more: Budget, place: Place, mirror: str | None, command: Command
) -> None:
    """Go on with a search that was interrupted, or extend one that ended.

    Args:
        more: what is wished; see `extended_budget`.
        place: where to train; as many trainings at once, and on a GPU, as before unless it says
            otherwise.
        mirror: see `remirror`.

    Raises:
        HwtuneError: when there is nothing left to do, the data is another, or a file damaged.
        HwtuneFailure: as `search` does; KeyboardInterrupt, too.
    """
    with folder.locked():
        about = folder.read_study()
        mended = mend_trials(folder, about)
        earlier = earlier_runs(folder)
        done = earlier.trials
        if done and not folder.journal.is_file():
            raise StudyError(
                f"{folder.path} has no {folder.journal.name}, which is not kept with a reference "
                "study, and cannot go on; search anew."
            )
        if missing := lacking(about, RESUMED):
            raise StudyError(
                f"{folder.path / 'study.json'} is damaged: {missing}; put back a whole one."
            )
        remirror(about, mirror)
        ended = about["status"] == "complete"
        if ended and more == Budget():
            if not complete_files(folder, about, command, mended=mended):
                more_trials = f"--trials {2 * max(done, 1)}"
                raise StudyError(
                    f"Study {folder.name!r} is complete; extend it: "
                    f"{folder.command('resume', more_trials, *place.options)}, or "
                    "--time-budget 10m."
                )
            return
        best = max((trial.val_accuracy for trial in ranked(folder.read_trials())), default=0.0)
        searched = ended or "search_seconds" in about
        if searched and more != Budget():
            check_extension(more, done=done, best=best)
        if not searched or more != Budget():
            settings_of(about)  # refuses a sampler that this machine lacks, before the run begins
        session = session_again(folder, about, place, command)
        budget = extended_budget(
            Budget(**about["budget"]),
            more,
            ended=searched,
            done=done,
            spent=seconds_of_all(about["runs"]),
            best=best,
        )
        if more != Budget():
            about.pop("search_seconds", None)
            about.pop("left_out", None)  # and what there is no time for is asked anew
        about["budget"] = budget.describe()
        run(session, earlier)


def complete_files(folder: StudyFolder, about: About, command: Command, *, mended: bool) -> bool:
    """Make what a complete study lacks, the page and its copy elsewhere; return whether it did.

    Args:
        mended: whether its trials were made anew, after which the page is, too.

    Raises:
        MirrorError, HwtuneFailure: as `complete_mirror` and `report` do.
    """
    reported = page_completed(folder, command.console, anew=mended)
    return complete_mirror(folder, about, command) or reported
