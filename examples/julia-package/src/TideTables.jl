module TideTables

using Dates

export next_high

"High water comes again after half a lunar day."
next_high(t::DateTime) = t + Minute(12 * 60 + 25)

end
