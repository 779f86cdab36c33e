import math

import streamlit as st

st.title("Tides of the example harbour")
hours = st.slider("Hours", 6, 48, 24)
heights = [2 + 1.6 * math.sin(2 * math.pi * h / 12.42) for h in range(hours)]
st.line_chart({"metres": heights})
st.write(f"Highest water: {max(heights):.2f} m")
