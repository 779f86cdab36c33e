
# Where packages come from: CRAN as of the day that this image is made for.
local({
  at <- Sys.getenv("BINNACLE_CRAN", "https://packagemanager.posit.co/cran/__linux__/{codename}/{date}")
  os <- if (file.exists("/etc/os-release")) readLines("/etc/os-release", warn = FALSE) else character()
  codename <- gsub("\"", "", sub("^VERSION_CODENAME=", "", grep("^VERSION_CODENAME=", os, value = TRUE)))
  day <- "/usr/local/share/binnacle/lock/r-snapshot.txt"
  date <- if (file.exists(day)) readLines(day, n = 1L, warn = FALSE) else "latest"
  at <- gsub("{date}", date, at, fixed = TRUE)
  if (length(codename)) at <- gsub("{codename}", codename[[1]], at, fixed = TRUE)
  options(
    repos = c(CRAN = at),
    # The package manager looks at this to send what is compiled already.
    HTTPUserAgent = sprintf("R/%s R (%s)", getRversion(), paste(getRversion(), R.version[["platform"]], R.version[["arch"]], R.version[["os"]]))
  )
})
