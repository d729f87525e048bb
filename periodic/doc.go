// Package periodic runs functions again and again: on a timetable that does not drift, with goroutines for runs and none for
// tasks, and, where asked for, once in the whole cluster per due time.
//
//	var tasks periodic.Set
//	tasks.Every(time.Minute, "audit", audit, periodic.Timeout(30*time.Second), periodic.Jitter(5*time.Second))
//	tasks.Add(periodic.Cron("30 2 * * *", berlin, "backup", backup, periodic.Singleton(ledger)))
//	err := tasks.Run(ctx)
//
// Tasks are declared beside the code they run, as values: a type lists its own in a table ([Tasker]), and a decorator wraps
// a task, changing what it does or how it is scheduled ([Decorator]; every option is one, and hosts write their own).
//
// # Guarantees
//
//   - The grid never moves: the k-th run of Every(d) is due at the start + k·d, whatever runs cost, however late one began.
//   - A slow, failing or panicking task delays and ends no other; a failing one goes on by its timetable. (With the default Env.Go,
//     tasks whose last run took less than 200 µs share a goroutine: one that then blocks delays others due with it by 1 ms, or to
//     the next look.)
//   - A due time is run, or skipped for a reason that Status counts: overlapped, missed, gated, taken by another node.
//   - Of a Singleton, one node is given a due time, under a fencing token that rises; a node that dies in it is followed by
//     another, a node that lost its session has its ctx ended and can record nothing.
//   - Setting the wall clock moves nothing but calendars and singletons, which notice it within a minute.
//   - Daylight saving neither skips nor doubles a calendar's runs; see [Calendar].
//   - Run returns after every run has.
//
// # Not guaranteed
//
//   - Exactly once: a singleton's run that was not recorded as done is run again, unless AtMostOnce, which may lose one.
//   - That a run ends at its limit: its ctx does, and the task is shown as overdue until the function returns.
//   - Starts closer together than about a millisecond: they share one look at the clock. A Set that looks a hundred times a second
//     does so every 4 ms.
//   - Work that must survive the process: submit a job, unique by name and due time.
package periodic
