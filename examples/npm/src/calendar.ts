/** Says whether a year of the Gregorian calendar has 366 days. */
export function leap(year: number): boolean {
  return year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
}
