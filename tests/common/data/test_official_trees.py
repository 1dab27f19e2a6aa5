import shutil


def test_try(chaos_tree, lvsc_tree, ppss_tree):
    from tools.prepare import main

    shutil.rmtree("/tmp/w/out", ignore_errors=True)
    shutil.rmtree("/tmp/w/trees", ignore_errors=True)
    for name, tree in (("chaos_t1", chaos_tree), ("chaos_t2", chaos_tree), ("lvsc", lvsc_tree), ("ppss", ppss_tree)):
        main(name, source=str(tree), output="/tmp/w/out/" + name)
        shutil.copytree(tree, "/tmp/w/trees/" + name)
