# Height in metres, hour by hour.
height <- function(hour, range = 3) {
  range / 2 * sin(2 * pi * hour / 12.42)
}

# The number of whole metres as a word.
spell <- function(metres) {
  as.character(english(round(metres)))
}
