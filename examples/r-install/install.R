# What the notebook draws on.
install.packages(c(
  "praise",
  "english"
))
