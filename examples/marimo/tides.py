import marimo

app = marimo.App()


@app.cell
def _():
    import marimo as mo

    mo.md("# Tides of the example harbour")
    return (mo,)


@app.cell
def _(mo):
    hours = mo.ui.slider(6, 48, value=24, label="Hours")
    hours
    return (hours,)


if __name__ == "__main__":
    app.run()
