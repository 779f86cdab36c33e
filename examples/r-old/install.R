install.packages("praise")
if (!requireNamespace("english")) install.packages("english")
