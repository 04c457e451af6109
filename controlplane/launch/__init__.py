"""How attempts get to where they run: one protocol; the daemon launcher hands orders to node
sessions.
"""
