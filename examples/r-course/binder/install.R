wanted <- c("praise", "english")
for (name in setdiff(wanted, rownames(installed.packages()))) {
  install.packages(name)
}
