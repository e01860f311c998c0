from hwtune.records import EpochRecord, TrialRecord, once_each, pareto_front, ranked, taken_over


def epoch(trial, number, accuracy, loss=0.5):
    return EpochRecord(trial, number, 0.1, loss, accuracy, 1e-3, 2.0)


def trial(number, accuracy, *, state="complete", loss=0.5, parameters=10):
    record = TrialRecord(number, state=state, parameters=parameters)
    record.add(epoch(number, 1, accuracy, loss))
    return record


def test_of_a_configuration_that_was_gone_on_with_the_longer_training_counts():
    def trained(number, rate, epochs, accuracy):
        return TrialRecord(
            number, config={"lr": rate, "filters": "4"}, epochs=epochs, best_epoch=epochs,
            val_accuracy=accuracy,
        )  # fmt: skip

    order = ranked(
        [trained(0, 0.1, 2, 0.9), trained(1, 0.2, 3, 0.8), trained(2, 0.3, 3, 0.7),
         trained(3, 0.1, 3, 0.6), trained(4, 0.4, 1, 0.5)]
    )  # fmt: skip
    assert [each.trial for each in once_each(order)] == [1, 2, 3, 4]


def test_epochs_that_a_trial_took_over_are_told_from_those_that_it_trained():
    trials = [TrialRecord(number, config={"lr": rate}) for number, rate in enumerate([1, 2, 1, 1])]
    curves = {0: [0.5, 0.6], 1: [0.5, 0.6], 2: [0.5, 0.6, 0.7], 3: [0.4, 0.6, 0.7, 0.8]}
    epochs = [epoch(n, place, a) for n, c in curves.items() for place, a in enumerate(c, 1)]
    assert taken_over(trials, epochs) == {2: 2}, "1 is another configuration, 3 was trained anew"
    silent = [trials[0], TrialRecord(1, config={"lr": 1}), trials[2]]  # cut off before it told
    epochs = [each for each in epochs if each.trial != 1]
    assert taken_over(silent, epochs) == {2: 2}
    front = [trial(0, 0.9), trial(1, 0.9)]
    assert pareto_front(front, ("val_accuracy",)) == [0], "one configuration"


def test_a_trial_keeps_its_best_epoch_by_accuracy_then_loss():
    record = TrialRecord(0)
    for number, (accuracy, loss) in enumerate([(0.8, 0.5), (0.9, 0.4), (0.9, 0.3), (0.9, 0.6)], 1):
        record.add(epoch(0, number, accuracy, loss))
    assert (record.best_epoch, record.val_loss, record.epochs, record.seconds) == (3, 0.3, 4, 8.0)


def test_ties_are_broken_by_loss_then_parameters():
    order = ranked(
        [
            trial(0, 0.9, loss=0.5),
            trial(1, 0.9, loss=0.4, parameters=20),
            trial(2, 0.9, loss=0.4, parameters=10),
            trial(3, 0.99, state="stopped"),
            trial(4, 1.0, state="failed"),
            TrialRecord(5),
        ]
    )
    assert [t.trial for t in order] == [3, 2, 1, 0]


def test_the_front_of_speed_has_the_trial_whose_epochs_are_quick():
    quick, slow = (
        TrialRecord(
            number, state="complete", epochs=epochs, val_accuracy=0.5, val_loss=0.0,
            seconds=seconds, best_epoch=1, config={"lr": str(number)},
        )
        for number, epochs, seconds in ((0, 4, 4.0), (1, 1, 2.0))
    )  # fmt: skip
    both, speed = [quick, slow], ("val_accuracy", "seconds_per_image")
    assert pareto_front(both, speed) == [0]
    steps = {0: 0.1, 1: 0.9}  # epochs of a training that ends within one
    assert pareto_front(both, speed, lambda trial: steps[trial.trial]) == [1]


def test_the_pareto_front_is_what_no_trial_beats():
    trials = []
    for number, (accuracy, parameters) in enumerate(
        [(0.9, 100), (0.8, 10), (0.85, 100), (0.7, 10)]
    ):
        trials.append(TrialRecord(number, parameters=parameters, config={"lr": number}))
        trials[-1].add(EpochRecord(number, 1, 0.1, 0.2, accuracy, 0.1, 1.0))
    assert pareto_front(trials, ("val_accuracy", "parameters")) == [0, 1]
    assert pareto_front(trials, ("val_accuracy",)) == [0]
