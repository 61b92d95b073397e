// Package field is a small multiplayer application to copy from: players move on a
// field, see each other, and chat. It shows everything that a node needs from an
// application: following the life of a session, sending to other sessions, and
// passing the state of a player to the next node when its session moves.
//
// Messages are JSON objects with a member "t". A message that is not such an object
// is sent back unchanged, so that clients that only count messages get an echo.
//
//	client → node  {"t":"join","field":"main","name":"ada"}   first
//	               {"t":"at","x":0.5,"y":0.2}                 volatile
//	               {"t":"say","text":"hello"}
//	               {"t":"count","n":7}                        sent back
//	node → client  {"t":"field","you":id,"players":[…]}       after join, and after each resume or reset
//	               {"t":"in","player":{…}}  {"t":"out","id":id}  {"t":"away","id":id,"away":true}
//	               {"t":"at","id":id,"x":0.5,"y":0.2}         volatile
//	               {"t":"say","id":id,"name":"ada","text":"hello"}
package field

import (
	"encoding/json"
	"hash/fnv"
	"sync"
	"unicode/utf8"

	"github.com/usher-broker/usher/node"
	"github.com/usher-broker/usher/proto"
)

// App is the application. Its zero value is ready to use. Sessions whose logins named
// the same group are on one node, so they can share a field.
type App struct {
	node.Quiet
	echo node.Echo

	mu     sync.Mutex
	fields map[string]map[*node.Session]*player
}

var _ node.Mover = (*App)(nil)

// player is the state of a session. It is stored in Session.Data, and moves with the
// session.
type player struct {
	ID    string  `json:"id"`
	Field string  `json:"field"`
	Name  string  `json:"name"`
	X     float64 `json:"x"` // 0 to 1
	Y     float64 `json:"y"`
	Hue   uint32  `json:"hue"` // of its colour, in degrees
	Away  bool    `json:"away"`
}

const maxName, maxText, maxField = 24, 200, 64 // the first two in characters, maxField in bytes

// input is any message of a client.
type input struct {
	T, Field, Name, Text string
	X, Y                 float64
	N                    uint64
}

// Message implements node.App.
func (a *App) Message(s *node.Session, m node.Message) {
	var in input
	if !m.Text || json.Unmarshal(m.Data, &in) != nil || in.T == "" {
		a.echo.Message(s, m)
		return
	}
	p, joined := s.Data.(*player)
	switch {
	case in.T == "join" && !joined && in.Field != "" && len(in.Field) <= maxField:
		a.join(s, &player{ID: s.ID, Field: in.Field, Name: cut(in.Name, maxName), X: 0.5, Y: 0.5, Hue: hue(s.ID)})
		a.show(s)
	case in.T == "count":
		send(s, map[string]any{"t": "count", "n": in.N}, false)
	case !joined:
	case in.T == "at":
		a.mu.Lock()
		p.X, p.Y = min(max(in.X, 0), 1), min(max(in.Y, 0), 1)
		a.mu.Unlock()
		a.broadcast(p, s, map[string]any{"t": "at", "id": p.ID, "x": p.X, "y": p.Y}, true)
	case in.T == "say" && in.Text != "":
		a.broadcast(p, nil, map[string]any{"t": "say", "id": p.ID, "name": p.Name, "text": cut(in.Text, maxText)}, false)
	}
}

// join adds the player to its field, and notifies the other players.
func (a *App) join(s *node.Session, p *player) {
	s.Data = p
	a.mu.Lock()
	if a.fields == nil {
		a.fields = map[string]map[*node.Session]*player{}
	}
	if a.fields[p.Field] == nil {
		a.fields[p.Field] = map[*node.Session]*player{}
	}
	a.fields[p.Field][s] = p
	a.mu.Unlock()
	a.broadcast(p, s, map[string]any{"t": "in", "player": *p}, false)
}

// show sends a player the list of all players in its field.
func (a *App) show(s *node.Session) {
	p, joined := s.Data.(*player)
	if !joined {
		return
	}
	a.mu.Lock()
	players := []player{}
	for _, other := range a.fields[p.Field] {
		players = append(players, *other)
	}
	a.mu.Unlock()
	send(s, map[string]any{"t": "field", "you": p.ID, "players": players}, false)
}

// broadcast sends v to all players in the player's field except one.
func (a *App) broadcast(p *player, but *node.Session, v any, volatile bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for s := range a.fields[p.Field] {
		if s != but {
			send(s, v, volatile)
		}
	}
}

// send ignores errors: the node counts a message that a slow client misses, and the
// client gets the complete field when it is back.
func send(s *node.Session, v any, volatile bool) {
	if b, err := json.Marshal(v); err == nil {
		_ = s.Send(node.Message{Text: true, Volatile: volatile, Data: b})
	}
}

// Detached implements node.App. The player stays in the field and is shown as away.
func (a *App) Detached(s *node.Session) { a.away(s, true) }

// Resumed implements node.App. The session may have come from another node.
func (a *App) Resumed(s *node.Session) {
	a.away(s, false)
	a.show(s)
}

// Reset implements node.App. The client has lost messages, so it gets the complete
// field when it is back.
func (a *App) Reset(s *node.Session, r node.Reset) {
	if !r.Away {
		a.Resumed(s)
	}
}

func (a *App) away(s *node.Session, away bool) {
	if p, joined := s.Data.(*player); joined {
		a.mu.Lock()
		p.Away = away
		a.mu.Unlock()
		a.broadcast(p, s, map[string]any{"t": "away", "id": p.ID, "away": away}, false)
	}
}

// Closed implements node.App.
func (a *App) Closed(s *node.Session, _ proto.CloseCode) {
	p, joined := s.Data.(*player)
	if !joined {
		return
	}
	a.mu.Lock()
	delete(a.fields[p.Field], s)
	if len(a.fields[p.Field]) == 0 {
		delete(a.fields, p.Field)
	}
	a.mu.Unlock()
	a.broadcast(p, s, map[string]any{"t": "out", "id": p.ID}, false)
}

// Snapshot implements node.Mover.
func (a *App) Snapshot(s *node.Session) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return json.Marshal(s.Data) // null if the player has not joined
}

// Restore implements node.Mover.
func (a *App) Restore(s *node.Session, snapshot []byte) error {
	var p *player
	if err := json.Unmarshal(snapshot, &p); err != nil || p == nil {
		return err
	}
	a.join(s, p)
	return nil
}

func cut(s string, most int) string {
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most])
}

func hue(id string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(id))
	return h.Sum32() % 360
}
