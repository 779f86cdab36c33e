install.packages("praise")

# One letter is wrong.
install.packages("englich")
