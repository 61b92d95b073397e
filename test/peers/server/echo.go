package main

import (
	"context"
	"log"
	"net/http"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"
	"github.com/lxzan/gws"
)

// echoServers holds servers that echo every message, each written like the examples of its
// library.
var echoServers = map[string]func() http.HandlerFunc{"coder": coderEcho, "gorilla": gorillaEcho, "gws": gwsEcho}

func coderEcho() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := coder.Accept(w, r, &coder.AcceptOptions{InsecureSkipVerify: true, Subprotocols: []string{"usher.v1"}})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		for {
			kind, b, err := ws.Read(context.Background())
			if err != nil || ws.Write(context.Background(), kind, b) != nil {
				return
			}
		}
	}
}

func gorillaEcho() http.HandlerFunc {
	up := gorilla.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, Subprotocols: []string{"usher.v1"}}
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer ws.Close()
		for {
			kind, b, err := ws.ReadMessage()
			if err != nil || ws.WriteMessage(kind, b) != nil {
				return
			}
		}
	}
}

type gwsHandler struct{ gws.BuiltinEventHandler }

func (gwsHandler) OnMessage(c *gws.Conn, m *gws.Message) {
	defer m.Close()
	_ = c.WriteMessage(m.Opcode, m.Bytes())
}

func (gwsHandler) OnPing(c *gws.Conn, b []byte) { _ = c.WritePong(b) }

func gwsEcho() http.HandlerFunc {
	up := gws.NewUpgrader(gwsHandler{}, &gws.ServerOption{SubProtocols: []string{"usher.v1"}})
	return func(w http.ResponseWriter, r *http.Request) {
		ws, err := up.Upgrade(w, r)
		if err != nil {
			log.Print(err)
			return
		}
		go ws.ReadLoop() // in a goroutine, so that the request's memory is freed, as the library's documentation says
	}
}
