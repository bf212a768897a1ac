"""The report: one self-contained page from plain data. Pure: what is gathered for it, and where it is written, is said
in plugin/report.py.

    html.py     text into HTML, everything escaped         page.py      the page, its style and its head
    model.py    what is wrong, what each task did last     chart.py     lanes, bars and areas as SVG
    summary.py, stages.py, compilation.py, changes.py, nodes.py         the page's sections

Parts may be missing or damaged: a section says so in its place. There is no script in the page, and its
Content-Security-Policy allows none, no request, and no style but its own.
"""
