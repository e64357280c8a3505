"""How files come to a step: one interface over ``file://``, ``http(s)://``, ``s3://`` and what the
package ships (``embedded:``), shared by the stages that fetch datasets and models.

:func:`proctor_steps.transport.obtain.obtain` is the whole of it for a stage. Below it:

- ``base``      what a remote file is, and the words for what went wrong
- ``http``, ``s3``, ``local``   the sources themselves
- ``download``  the store of what was fetched: resuming, retrying, checking
- ``names``, ``archive``        names that may be written, and archives that may be unpacked
"""
