"""whoami, user ..."""

from __future__ import annotations

import time

from riseml.v1 import user_pb2
from shell.command import Values
from shell.context import Context
from shell.render import Column, age, as_mapping, json_text, local_time, show_list, show_one


def whoami(context: Context, values: Values) -> int:
    """Name, role and server."""
    user = context.client.users.caller()
    facts = [
        ("user", user.name),
        ("role", _role(user)),
        ("server", context.client.credentials.server),
    ]
    show_one(context, user, facts)
    return 0


def create(context: Context, values: Values) -> int:
    """Create a user; the key goes to standard output, the words around it do not."""
    name = values.text("NAME")
    made = context.client.users.create(name, email=values.text("email"), admin=values.flag("admin"))
    if context.format == "json":
        context.out(json_text(as_mapping(made)))
        return 0
    context.say(f"Created {_role(made.user)} {made.user.name}.")
    if made.api_key:
        context.say("The API key, shown now and never again (for 'riseml user login'):")
        context.out(made.api_key)
    else:
        context.say(f"Make an API key with 'riseml user key create {name}'.")
    return 0


def list_users(context: Context, values: Values) -> int:
    """All users."""
    now = time.time()
    show_list(
        context,
        context.client.users.list(),
        [
            Column[user_pb2.User]("NAME", lambda user: user.name),
            Column("ROLE", _role),
            Column("STATE", lambda user: "enabled" if user.enabled else "disabled"),
            Column("EMAIL", lambda user: user.email),
            Column("AGE", lambda user: age(user.create_time, now), right=True),
        ],
        empty="There are no users.",
    )
    return 0


def display(context: Context, values: Values) -> int:
    """One user with the keys."""
    name = values.text("NAME") or context.user
    user = context.client.users.get(name)
    keys = list(context.client.users.list_keys(name))
    if context.format == "json":
        context.out(json_text({"user": as_mapping(user), "keys": [as_mapping(k) for k in keys]}))
        return 0
    described = [
        f"{key.id}  {local_time(key.create_time)}  {key.description}".rstrip() for key in keys
    ]
    show_one(
        context,
        user,
        [
            ("user", user.name),
            ("role", _role(user)),
            ("state", "enabled" if user.enabled else "disabled"),
            ("email", user.email),
            ("created", local_time(user.create_time)),
            ("keys", "\n".join(described)),
        ],
    )
    return 0


def disable(context: Context, values: Values) -> int:
    """Refuse a user."""
    return _set_enabled(context, values, False)


def enable(context: Context, values: Values) -> int:
    """Admit a user again."""
    return _set_enabled(context, values, True)


def _set_enabled(context: Context, values: Values, enabled: bool) -> int:
    user = context.client.users.update(values.text("NAME"), enabled=enabled)
    if context.format == "json":
        context.out(json_text(as_mapping(user)))
    context.say(f"{user.name} is {'enabled' if user.enabled else 'disabled'}.")
    return 0


def create_key(context: Context, values: Values) -> int:
    """A further key; only the key goes to standard output."""
    made = context.client.users.create_key(
        user_name=values.text("NAME"), description=values.text("description")
    )
    if context.format == "json":
        context.out(json_text(as_mapping(made)))
        return 0
    context.say(f"API key {made.key.id} of {made.key.user_name}, shown now and never again:")
    context.out(made.api_key)
    return 0


def delete_key(context: Context, values: Values) -> int:
    """Revoke a key."""
    context.client.users.delete_key(values.text("KEY"))
    context.say("The key is revoked.")
    return 0


def _role(user: user_pb2.User) -> str:
    return "admin" if user.admin else "user"
