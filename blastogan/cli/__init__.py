"""The subcommands of ``blastogan``, one file each, named as the subcommand is typed.

.. include:: GUIDE.md
"""
