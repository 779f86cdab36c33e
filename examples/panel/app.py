import panel as pn

pn.extension()
hours = pn.widgets.IntSlider(name="Hours", start=6, end=48, value=24)


def highest(value):
    return f"## Highest water of {value} hours: {2 + 1.6 * min(1, value / 12):.2f} m"


pn.Column("# Tides of the example harbour", hours, pn.bind(highest, hours)).servable(title="Tides of the example harbour")
