// Package dispatch takes a named command through a chain of stages to its handler: looked up, permitted, unpacked, bound
// to a typed struct, checked for access, validated, then run at once (Sync, List) or submitted as a job (Async) and run
// later, under the same identity, after the same checks. It knows no HTTP: a face builds a Command from its request and
// renders the answer, or the one error type.
//
// A command is a struct with param tags:
//
//	type StopVM struct {
//		ID     dispatch.UUID `param:"id,required,entity=vm,access=use"`
//		Forced bool          `param:"forced" doc:"cut the power"`
//	}
//
// Tag words after the name: required, min=, max= (of numbers; bytes of strings, default 255; items of lists), default=,
// oneof=a|b, pattern= (last, anchored), entity=, access=, secret, roles=a|b, since=, alias=, layout=date|datetime, endof, trim,
// minusone, removed; param:"-" leaves a field out; embedded structs are flattened. Types: string, bool, integers, floats,
// time.Time, time.Duration, UUID, Host, Secret, slices of those, []byte (base64), map[string]string (p[0].key=k&p[0].value=v or
// p[0].k=v), structs and slices of structs (p[i].field), and any encoding.TextUnmarshaler; a pointer tells absent from zero.
//
// The stages are middleware as in net/http, with names, so that a host can insert, replace or remove its own:
// Standard().Before("validate", "quota", q). The order is that of CloudStack's ApiServer and dispatch chain.
//
// # Guarantees
//
// Of an async command with create, the entity, the job and whatever else create writes in tx are committed together or not
// at all; draining, a full queue or a lost store leave nothing behind. What Outside makes in another system is taken back if
// no job came of it. The same JobID or Idem again gives the first answer and calls create for nothing, or is refused if the
// request differs. The chain runs again in the job, with the caller's roles of that day. A panic anywhere is Internal for its
// caller only. No identity outlives its dispatch: everything travels in the context. Events (Registry.Events) are written in
// the transactions they tell of: one scheduled, one started and one completed per job, whatever is retried.
//
// Secret parameters are in no log, span, metric, event, error or catalogue, and in the job's row only sealed.
//
// # Not guaranteed
//
// Exactly-once effects of a job's handler outside its store: after the loss of a node it runs again, see package job. Undo of
// what Outside made, when the node dies before its submission. Rate counts per node.
package dispatch
