import gradio as gr


def highest(hours):
    return f"Highest water: {2 + 1.6 * min(1, hours / 12):.2f} m"


with gr.Blocks(title="Tides of the example harbour") as demo:
    gr.Markdown("## Tides of the example harbour")
    hours = gr.Slider(6, 48, 24, label="Hours")
    water = gr.Markdown(highest(24))
    hours.change(highest, hours, water)

demo.launch()
