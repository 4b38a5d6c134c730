"""Real faults in processes of their own, the quick ones; `python -m tests.faults` makes all and says what happened."""

import pytest

from bayeslmm.support import memory_limit
from tests.faults.table import FAULTS


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
def test_a_fault_is_an_error_that_says_so_or_no_matter(fault, tmp_path):
    outcome = fault.run(tmp_path)
    assert outcome.good, outcome.said


def test_work_that_would_end_the_process_is_not_begun(monkeypatch):
    import bayeslmm as blm

    monkeypatch.setattr("bayeslmm.posterior.nuts.require_address_space", memory_limit.require_address_space)
    monkeypatch.setattr(memory_limit, "address_space_left", lambda: 3e8)
    lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
    with pytest.raises(blm.BayesLMMError, match=r"NUTS needs about 500 MB of address space, .* leaves 300 MB"):
        lmm.sample("joint", progress=False)


@pytest.mark.parametrize(
    ("error", "left", "is_memory"),
    [
        (MemoryError(), 1e12, True),
        (OSError(12, "Cannot allocate memory"), 1e12, True),
        (OSError(28, "No space left on device"), 1e12, False),
        (ImportError("x.so: failed to map segment from shared object"), 1e12, True),
        (ImportError("No module named 'h5py'"), 1e7, True),
        (ImportError("No module named 'h5py'"), float("inf"), False),
        (SystemError("error return without exception set"), 1e7, True),
    ],
    ids=repr,
)
def test_what_a_library_calls_memory_that_ran_out(error, left, is_memory, monkeypatch):
    monkeypatch.setattr(memory_limit, "address_space_left", lambda: left)
    assert memory_limit.ran_out(error) == is_memory


class TestInterruptedSamplers:
    """Ctrl-C keeps what is finished: whole chains, or the first draws of the first one."""

    @staticmethod
    def stopped(monkeypatch, target, nth, **options):
        import bayeslmm as blm
        from bayeslmm.posterior import independence

        monkeypatch.setattr(independence, "_piece", lambda posterior: 10)
        owner, name = target
        real, calls = getattr(owner, name), []

        def stop(*arguments, **keywords):
            calls.append(1)
            if len(calls) == nth:
                raise KeyboardInterrupt
            return real(*arguments, **keywords)

        monkeypatch.setattr(owner, name, stop)
        lmm = blm.LMM("y ~ 1 + (1 | g)", {"y": [1.0, 2, 4, 5, 8, 9], "g": list("aabbcc")})
        with pytest.raises(blm.SamplingError, match="was interrupted") as caught:
            lmm.sample(draws=40, chains=3, random_seed=1, progress=False, **options)
        return lmm, caught.value.clean

    @pytest.mark.parametrize(("nth", "shape"), [(3, (1, 20)), (6, (1, 40)), (10, (2, 40))])
    def test_while_the_variance_parameters_are_drawn(self, monkeypatch, nth, shape):
        from bayeslmm.posterior.collapsed import CollapsedPosterior

        _, clean = self.stopped(monkeypatch, (CollapsedPosterior, "evaluate_with_effects"), nth)
        assert clean["posterior"]["u2"].shape == (*shape, 3)
        assert clean["sample_stats"]["lp"].shape == shape
        assert (clean.attrs["partial"], clean.attrs["draws"], clean.attrs["chains"]) == (1, 40, 3)
        assert clean.attrs["sampler"] == "collapsed"

    def test_while_the_effects_are_drawn(self, monkeypatch):
        from bayeslmm.posterior import independence
        from bayeslmm.posterior.effects import Given

        monkeypatch.setattr(independence, "EFFECTS", 0)  # so that they are drawn afterwards
        lmm, clean = self.stopped(monkeypatch, (Given, "draw"), 3)
        assert clean["posterior"]["u2"].shape == (2, 40, 3)
        monkeypatch.undo()
        monkeypatch.setattr(independence, "EFFECTS", 0)
        whole = lmm.sample(draws=40, chains=3, random_seed=1, progress=False)["posterior"]
        kept = clean["posterior"].to_dataset()
        assert whole.to_dataset()[list(kept.data_vars)].isel(chain=slice(2)).equals(kept)

    def test_before_anything_is_finished_it_is_an_interrupt(self, monkeypatch):
        import bayeslmm as blm

        monkeypatch.setattr("bayeslmm.posterior.independence.find_modes", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            blm.example("dyestuff").sample(progress=False)


def _interrupt(*_):
    raise KeyboardInterrupt
