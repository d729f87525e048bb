package transporttest

var failures, deadlines, routes, dispatches, workers, eventCases, broken []testCase
