module example.org/sizes

go 1.23

require github.com/dustin/go-humanize v1.0.0
