library(shiny)

shinyApp(
  fluidPage(sliderInput("hour", "Hour", 0, 12, 3), textOutput("height")),
  function(input, output) output$height <- renderText(sprintf("%.2f m", 1.5 * sin(2 * pi * input$hour / 12.42)))
)
