"""What a person sees of a run: a summary for the terminal and one self-contained page.

Both are pure functions of the :class:`~sofa_otel.core.report.Report`; colours, labels and number formats live in one module
(:mod:`.view`), so that a phase has the same name and colour wherever it is drawn.
"""
