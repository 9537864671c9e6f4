"""Which bundle a stage serves when it starts, after deployments and changes of its settings."""

import json

import pytest
from pydantic import ValidationError

from common.bundle import load_bundle
from common.domain.errors import InvalidInputError, PreconditionError
from common.domain.models import DEFAULT_MODEL, BundleSource
from common.domain.placement import Stage
from services.pipeline.configured_bundles import ConfiguredBundles
from services.pipeline.settings import StageSettings
from tests.bundles import version_of_toy


class Settings(StageSettings):
    port: int = 0
    metrics_port: int = 0


@pytest.fixture
def folder(tmp_path):
    for name in ("old", "new", "third"):
        version_of_toy(tmp_path, name)
    return tmp_path


def configured(folder, bundle="old", **more):
    settings = Settings(bundle=folder / bundle, node="edge 1", bundles=folder, **more)
    return ConfiguredBundles(Stage.BACKBONE, settings)


def starting(folder, bundle="old", **more):
    return configured(folder, bundle, **more).starting()[DEFAULT_MODEL]


def deploy(folder, name, bundle="old", **more):
    stage = configured(folder, bundle, **more)
    stage.starting()
    digest = json_digest(folder, name)
    stage.find(name, digest)
    return stage.keep_deployed(DEFAULT_MODEL, name, digest)


def json_digest(folder, name):
    return load_bundle(folder / name).digest


def test_a_restart_serves_what_was_deployed(folder):
    assert deploy(folder, "new") == ""
    again = starting(folder)
    assert (again.bundle.manifest.name, again.source) == ("new", BundleSource.DEPLOYED)
    # Two stages, or two nodes, may share the folder.
    other = ConfiguredBundles(
        Stage.TRANSFORMER, Settings(bundle=folder / "old", node="edge 1", bundles=folder)
    )
    assert other.starting()[DEFAULT_MODEL].bundle.manifest.name == "old"


def test_deploying_what_the_settings_name_leaves_nothing_behind(folder):
    deploy(folder, "new")
    deploy(folder, "old")
    assert starting(folder).source is BundleSource.SETTINGS
    assert not list(folder.glob(".deployed*"))


def test_settings_that_name_another_bundle_since_are_the_newer_word(folder):
    deploy(folder, "new")
    assert starting(folder, "third").bundle.manifest.name == "third"


def test_what_was_deployed_and_is_damaged_is_not_served_and_that_is_told(folder):
    deploy(folder, "new")
    path = folder / "new" / "bundle.json"
    path.write_text(path.read_text() + " ")
    again = starting(folder)
    assert again.bundle.manifest.name == "old"
    assert "new, which was deployed, cannot be served any more" in again.note
    (kept,) = folder.glob(".deployed*")
    deploy(folder, "third")
    # It needs its own half, and not the other one.
    (folder / "third" / "transformer.onnx").unlink()
    assert starting(folder).bundle.manifest.name == "third"
    (folder / "third" / "backbone.onnx").unlink()
    again = starting(folder)
    assert (again.bundle.manifest.name, again.source) == ("old", BundleSource.SETTINGS)
    assert "cannot be served any more: bundle" in again.note and "backbone.onnx" in again.note
    kept.write_text("[]")
    assert "what was deployed is not known" in starting(folder).note


def test_further_models_are_read_and_deployed_each_by_its_own_name(folder):
    models = {"fast": folder / "new"}
    stage = configured(folder, models=models)
    told = stage.starting()
    assert {name: each.bundle.manifest.name for name, each in told.items()} == {
        DEFAULT_MODEL: "old",
        "fast": "new",
    }
    assert stage.keep_deployed("fast", "third", json_digest(folder, "third")) == ""
    again = configured(folder, models=models).starting()
    assert (again["fast"].bundle.manifest.name, again["fast"].source) == (
        "third",
        BundleSource.DEPLOYED,
    )
    assert again[DEFAULT_MODEL].source is BundleSource.SETTINGS


def test_names_of_models_are_checked(folder):
    for name in ("", "default", "a/b", "-a", "a b", "x" * 65):
        with pytest.raises(ValidationError, match="is no model's name"):
            configured(folder, models={name: folder / "new"})
    with pytest.raises(ValidationError, match="a path is expected for the model 'fast'"):
        configured(folder, models={"fast": ""})
    with pytest.raises(ValidationError, match="there may be 32"):
        configured(folder, models={f"m{number}": folder / "new" for number in range(33)})


def test_a_file_that_cannot_be_written_is_told(folder):
    note = deploy(folder, "new", deployed=folder / "missing" / "file.json")
    assert note.startswith("a restart would serve what was served before") and "missing" in note


def test_a_bundle_is_found_by_name_and_digest_and_by_nothing_else(folder):
    stage, digest = configured(folder), json_digest(folder, "new")
    assert stage.find("new", digest).digest == digest
    with pytest.raises(PreconditionError, match="another one, or not the same version"):
        stage.find("old", digest)
    with pytest.raises(PreconditionError, match="no bundle at .*absent"):
        stage.find("absent", digest)
    for name in ("../new", ".deployed", "", "a/b"):
        with pytest.raises(InvalidInputError, match="no name of a folder"):
            stage.find(name, digest)
    manifest = json.loads((folder / "new" / "bundle.json").read_text())
    manifest["categories"] = "none"
    (folder / "new" / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(PreconditionError, match="categories"):
        stage.find("new", digest)
    bare = ConfiguredBundles(Stage.BACKBONE, Settings(bundle=folder / "old", node="edge"))
    with pytest.raises(PreconditionError, match="`bundles`"):
        bare.find("new", digest)
