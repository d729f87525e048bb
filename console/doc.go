// Package console is the operations page and the operations API of a cluster as one [http.Handler], to be mounted where the
// host likes. It is thin: it calls the public verbs of the components it is given and adds no rule of its own. HTML, CSS and
// JavaScript are embedded; nothing is built, and nothing is loaded from elsewhere.
//
//	c, err := console.New(console.Config{Jobs: jobs, Queues: queues, Leases: session, Auth: auth})
//	mux.Handle("/ops/", http.StripPrefix("/ops", c)) // every link and request of the page is relative
//
// # Guarantees
//
//   - Without Config.Auth it answers only requests from this machine that name this machine as their host.
//   - A page that is read-only refuses every verb on the server, whatever is sent.
//   - What comes from jobs is shown as text: no value reaches the page as markup, and the content policy allows no inline
//     script.
//   - A frame of the live stream is a hint. The page re-reads what it shows, so it is right also where frames are lost.
//   - The final state of a job is sent to every stream that follows it, or the stream ends with "gone".
//   - Nothing waits for a slow reader.
//
// # Not guaranteed
//
//   - Frames about jobs of other nodes, where Config.Nodes is not set: those are read again every few seconds.
//   - That a frame is sent for every change: of one object there are four a second at most.
package console
