from shiny import App, render, ui

app_ui = ui.page_fluid(
    ui.h2("Tides of the example harbour"),
    ui.input_slider("hours", "Hours", 6, 48, 24),
    ui.output_text("highest"),
)


def server(input, output, session):
    @render.text
    def highest():
        return f"Highest water: {2 + 1.6 * min(1, input.hours() / 12):.2f} m"


app = App(app_ui, server)
