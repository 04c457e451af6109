from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_CREATED: _ClassVar[State]
    STATE_BUILDING: _ClassVar[State]
    STATE_PENDING: _ClassVar[State]
    STATE_STARTING: _ClassVar[State]
    STATE_RUNNING: _ClassVar[State]
    STATE_FINISHED: _ClassVar[State]
    STATE_FAILED: _ClassVar[State]
    STATE_KILLED: _ClassVar[State]
STATE_UNSPECIFIED: State
STATE_CREATED: State
STATE_BUILDING: State
STATE_PENDING: State
STATE_STARTING: State
STATE_RUNNING: State
STATE_FINISHED: State
STATE_FAILED: State
STATE_KILLED: State
