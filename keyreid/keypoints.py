HALPE26 = tuple(str(i) for i in range(26))
