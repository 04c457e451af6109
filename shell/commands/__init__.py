"""What the commands do: one module per group, one function per command, named by ``shell.table``.

A function takes the context and the values of its arguments, and returns the exit status. Data goes
to ``context.out``, messages to ``context.say``; errors are raised and put into words by
``shell.run``.
"""
