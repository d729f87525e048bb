package bus

import "context"

// Transport carries messages between nodes, at most once. Package bus/memory is one; testkit/transporttest holds them to this.
//
// Optional abilities: Run(ctx) error, run beside the bus; MaxBytes() int, the largest body; Width() int, how many
// Sends to one destination may run at once (default 1; events always one); Prompt() bool, Send waits for nothing and nobody, and
// is called by who sends, as often at once as that is; Ready(ctx) error; and Peer(m *Message) (node string, proven bool), who sent m.
type Transport interface {
	// Send hands m over.
	//  1. nil: the transport has accepted it: a receiver's queue has, or the broker says so.
	//  2. Otherwise one of ErrNoRoute (nobody receives there), ErrBusy, ErrNotSent, ErrInvalid, after which it is never
	//     delivered, or ErrNodeLost: nobody knows. That nobody receives a call may also be told later (KindUnrouted).
	//  3. It ends soon after ctx, whatever hangs. Fanout and events without receivers are no error.
	//  4. It does not change m, nor the sender after Send.
	Send(ctx context.Context, m *Message) error
	// Receive gives h what is sent to a, until ctx is done; it returns earlier only if it cannot go on. What has left the broker
	// when ctx ends is still given to h, before Receive returns.
	//  1. Each message goes to one of the receivers of a topic in turn; of a fanout and of events to all.
	//  2. A nil of h acknowledges. A call that h refuses is dropped; a cast is dropped or tried again elsewhere or later.
	//  3. h owns what it is given. What was or may have been given to another receiver before has Wire.Again.
	//  4. Each time the receiver stands, at first and after every reconnect, it calls Standing(h).
	//  5. Calls of h do not wait for each other's handlers: h returns when the message is queued.
	Receive(ctx context.Context, a Address, h Handler) error
}

// Standing tells h that its receiver stands: from now on what is sent arrives.
func Standing(h Handler) {
	if s, ok := h.(interface{ Standing() }); ok {
		s.Standing()
	}
}
