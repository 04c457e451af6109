"""Where the state lives: one protocol, a memory store, and peewee tables on SQLite or PostgreSQL."""
