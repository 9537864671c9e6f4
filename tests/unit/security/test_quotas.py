"""Quotas: what their file may say, and how they hold back."""

import pytest

from common.domain.errors import ConfigurationError, ResourceExhaustedError
from common.security.identity import Identity, Role
from common.security.quotas import Quota, QuotaFile
from services.orchestrator.session import quotas as quotas_module
from services.orchestrator.session.quotas import IdentityQuotas, Meter
from tests.authorities import replace

CAMERA = Identity(Role.CLIENT, "camera")
OTHER = Identity(Role.CLIENT, "other")


def file_with(tmp_path, text):
    path = tmp_path / "quotas.yaml"
    path.write_text(text)
    return QuotaFile(path)


def test_an_identity_has_its_own_quota_or_that_of_its_role(tmp_path):
    file = file_with(
        tmp_path,
        "quotas:\n  client/camera: {frames_per_second: 30}\n  client/*: {sessions: 2}\n",
    )
    assert file.of(CAMERA) == Quota(frames_per_second=30)
    assert file.of(OTHER) == Quota(sessions=2)
    assert file.of(Identity(Role.OPERATOR, "ann")) == Quota()


@pytest.mark.parametrize(
    "entry",
    [
        "client/camera: {frames: 1}",
        "client/camera: {sessions: 0}",
        "client/camera: {sessions: 1.5}",
        "client/camera: {frames_per_second: -1}",
        "client/camera: {bytes_per_second: .inf}",
        "client/camera: {bytes_per_second: many}",
        "client/camera: {sessions: true}",
        "camera: {sessions: 1}",
        "client/camera: 5",
        "client/cam*: {sessions: 1}",
        "client/camera: {sessions: 1}\n  spiffe://tandem/client/camera: {sessions: 2}",
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(tmp_path, entry):
    with pytest.raises(ConfigurationError, match=r"quotas\.yaml: "):
        file_with(tmp_path, f"quotas:\n  {entry}\n")


def test_a_meter_holds_a_rate():
    meter, now = Meter(), 100.0
    # A second's worth may come at once.
    for _ in range(10):
        assert meter.wait_seconds(now) == 0
        meter.take(1, 10, now)
    assert meter.wait_seconds(now) == pytest.approx(0.0)
    for _ in range(30):
        now += meter.wait_seconds(now)
        meter.take(1, 10, now)
    assert now == pytest.approx(100.0 + 2.9)
    # After a pause it is a second's worth again, and no more.
    now += 60
    for _ in range(11):
        meter.take(1, 10, now)
    assert meter.wait_seconds(now) == pytest.approx(0.1)


def test_sessions_are_counted_by_identity(tmp_path):
    file = file_with(tmp_path, "quotas: {client/camera: {sessions: 1}}")
    quotas = IdentityQuotas(file)
    with quotas.session(CAMERA), quotas.session(OTHER), quotas.session(OTHER):
        with pytest.raises(ResourceExhaustedError, match="1 sessions of client/camera are open"):
            quotas.session(CAMERA).__enter__()
        replace(tmp_path / "quotas.yaml", b"quotas: {client/camera: {sessions: 2}}")
        with quotas.session(CAMERA):
            pass
    with quotas.session(CAMERA):
        pass


def test_an_identity_pays_for_all_of_its_streams_and_no_other_does(tmp_path):
    file = file_with(tmp_path, "quotas: {client/*: {bytes_per_second: 1000}}")
    quotas = IdentityQuotas(file)
    with quotas.session(CAMERA) as first, quotas.session(CAMERA) as second:
        first.take(3000, live=False)
        assert second.wait_seconds(live=False) == pytest.approx(2.0, abs=0.1)
        assert second.wait_seconds(live=True) == pytest.approx(2.0, abs=0.1)
    with quotas.session(OTHER) as other:
        assert other.wait_seconds(live=False) == 0.0
    # A new session does not begin anew.
    with quotas.session(CAMERA) as third:
        assert third.wait_seconds(live=False) > 1.5


def test_what_is_owed_is_owed_at_the_rate_that_the_file_has_now(tmp_path):
    file = file_with(tmp_path, "quotas: {client/camera: {bytes_per_second: 5}}")
    with IdentityQuotas(file).session(CAMERA) as allowance:
        allowance.take(5_000_005, live=False)
        assert allowance.wait_seconds(live=False) == pytest.approx(1_000_000, rel=0.01)
        replace(tmp_path / "quotas.yaml", b"quotas: {client/camera: {bytes_per_second: 5000000}}")
        assert 0 < allowance.wait_seconds(live=True) <= 1.0
        replace(tmp_path / "quotas.yaml", b"quotas: {}")
        assert allowance.wait_seconds(live=False) == 0.0


def test_live_frames_over_the_quota_are_refused_and_do_not_wait(tmp_path):
    file = file_with(tmp_path, "quotas: {client/camera: {frames_per_second: 5}}")
    with IdentityQuotas(file).session(CAMERA) as allowance:
        taken = [allowance.take_live_frame() for _ in range(20)]
        # A second's worth at once, and the one that uses the last of it up.
        assert taken == [True] * 6 + [False] * 14
        assert allowance.wait_seconds(live=True) == 0.0


def test_without_a_file_there_is_no_limit():
    with IdentityQuotas().session(CAMERA) as allowance:
        allowance.take(10**12, live=False)
        assert allowance.wait_seconds(live=False) == 0.0
        assert all(allowance.take_live_frame() for _ in range(1000))


def test_nothing_is_kept_of_identities_that_are_gone_and_owe_nothing(tmp_path, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(quotas_module.time, "monotonic", lambda: now[0])
    file = file_with(tmp_path, "quotas: {client/*: {bytes_per_second: 1000}}")
    quotas = IdentityQuotas(file)
    for number in range(100):
        with quotas.session(Identity(Role.CLIENT, f"camera-{number}")):
            pass
    with quotas.session(CAMERA) as indebted:
        indebted.take(10_000, live=False)
        with quotas.session(OTHER):
            assert len(quotas) == 2
    now[0] += 8
    with quotas.session(OTHER):
        # It still has to wait for a second, and has no second's worth at once after that.
        assert len(quotas) == 2
    now[0] += 3
    with quotas.session(OTHER):
        assert len(quotas) == 1
