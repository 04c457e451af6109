"""Where the state lives: one protocol, a memory store, and peewee tables on SQLite and
PostgreSQL. `open.open_store(url)` opens one.
"""
