package sizes

func ignored() {}
