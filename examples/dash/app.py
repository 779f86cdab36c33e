from dash import Dash, Input, Output, dcc, html

app = Dash(__name__, title="Tides of the example harbour")
app.layout = html.Div([
    html.H2("Tides of the example harbour"),
    dcc.Slider(6, 48, 6, value=24, id="hours"),
    html.P(id="highest"),
])


@app.callback(Output("highest", "children"), Input("hours", "value"))
def highest(hours):
    return f"Highest water: {2 + 1.6 * min(1, hours / 12):.2f} m"


if __name__ == "__main__":
    app.run()
