import dayjs from "dayjs";

export const isSummer = (day) => [5, 6, 7].includes(dayjs(day).month());
