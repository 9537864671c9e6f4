from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BundleSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BUNDLE_SOURCE_UNSPECIFIED: _ClassVar[BundleSource]
    BUNDLE_SOURCE_SETTINGS: _ClassVar[BundleSource]
    BUNDLE_SOURCE_RELOADED: _ClassVar[BundleSource]
    BUNDLE_SOURCE_DEPLOYED: _ClassVar[BundleSource]
BUNDLE_SOURCE_UNSPECIFIED: BundleSource
BUNDLE_SOURCE_SETTINGS: BundleSource
BUNDLE_SOURCE_RELOADED: BundleSource
BUNDLE_SOURCE_DEPLOYED: BundleSource

class WatchModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StageModels(_message.Message):
    __slots__ = ("models", "loaded_digests")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    LOADED_DIGESTS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ServedModel]
    loaded_digests: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, models: _Optional[_Iterable[_Union[ServedModel, _Mapping]]] = ..., loaded_digests: _Optional[_Iterable[str]] = ...) -> None: ...

class ServedModel(_message.Message):
    __slots__ = ("name", "bundle_digest", "bundle_name", "source", "note", "out_of_order")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    OUT_OF_ORDER_FIELD_NUMBER: _ClassVar[int]
    name: str
    bundle_digest: str
    bundle_name: str
    source: BundleSource
    note: str
    out_of_order: str
    def __init__(self, name: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., bundle_name: _Optional[str] = ..., source: _Optional[_Union[BundleSource, str]] = ..., note: _Optional[str] = ..., out_of_order: _Optional[str] = ...) -> None: ...

class DeployStep(_message.Message):
    __slots__ = ("prepare", "commit", "finish")
    PREPARE_FIELD_NUMBER: _ClassVar[int]
    COMMIT_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    prepare: PrepareBundle
    commit: CommitBundle
    finish: FinishDeployment
    def __init__(self, prepare: _Optional[_Union[PrepareBundle, _Mapping]] = ..., commit: _Optional[_Union[CommitBundle, _Mapping]] = ..., finish: _Optional[_Union[FinishDeployment, _Mapping]] = ...) -> None: ...

class PrepareBundle(_message.Message):
    __slots__ = ("model", "bundle", "bundle_digest")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    model: str
    bundle: str
    bundle_digest: str
    def __init__(self, model: _Optional[str] = ..., bundle: _Optional[str] = ..., bundle_digest: _Optional[str] = ...) -> None: ...

class CommitBundle(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FinishDeployment(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeployProgress(_message.Message):
    __slots__ = ("prepared", "committed")
    PREPARED_FIELD_NUMBER: _ClassVar[int]
    COMMITTED_FIELD_NUMBER: _ClassVar[int]
    prepared: BundlePrepared
    committed: BundleCommitted
    def __init__(self, prepared: _Optional[_Union[BundlePrepared, _Mapping]] = ..., committed: _Optional[_Union[BundleCommitted, _Mapping]] = ...) -> None: ...

class BundlePrepared(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class BundleCommitted(_message.Message):
    __slots__ = ("note",)
    NOTE_FIELD_NUMBER: _ClassVar[int]
    note: str
    def __init__(self, note: _Optional[str] = ...) -> None: ...
