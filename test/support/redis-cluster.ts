import { freePort, RedisServer, until } from './redis-server.ts';

const MASTERS = 3;
const SLOTS = 16_384;
/** Milliseconds after which nodes take one that is silent for lost. */
const NODE_TIMEOUT_MS = 1000;

/** Three masters with a replica each. */
export class RedisCluster implements AsyncDisposable {
  readonly nodes: readonly RedisServer[];

  private constructor(nodes: readonly RedisServer[]) {
    this.nodes = nodes;
  }

  static async start(): Promise<RedisCluster> {
    const nodes: RedisServer[] = [];
    const cluster = new RedisCluster(nodes);
    try {
      const ports = await Promise.all(Array.from({ length: 2 * MASTERS }, freePort));
      nodes.push(...(await Promise.all(ports.map((bus) => RedisServer.start({ settings: settingsOf(bus) })))));
      await cluster.#join(ports);
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** The one that is the master of a key now. */
  async masterOf(key: string): Promise<RedisServer> {
    const anyone = this.nodes.find(({ admin }) => admin.status === 'ready') as RedisServer;
    const slot = await anyone.admin.cluster('KEYSLOT', key);
    const ranges = await anyone.admin.cluster('SLOTS');
    const [, , master] = ranges.find(([from, to]) => from <= slot && slot <= to) ?? [];
    return this.nodes.find(({ port }) => port === master?.[1]) as RedisServer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node[Symbol.asyncDispose]()));
  }

  async #join(busPorts: readonly number[]): Promise<void> {
    const width = Math.ceil(SLOTS / MASTERS);
    for (const [at, { admin, port, host }] of this.nodes.entries()) {
      await admin.cluster('SET-CONFIG-EPOCH', at + 1);
      if (at < MASTERS) {
        await admin.call('CLUSTER', 'ADDSLOTSRANGE', at * width, Math.min(SLOTS, (at + 1) * width) - 1);
      }
      // All of all, as they take seconds to tell each other.
      for (const other of this.nodes.slice(0, at))
        await other.admin.call('CLUSTER', 'MEET', host, port, busPorts[at] as number);
    }
    const ids = await Promise.all(this.nodes.map(({ admin }) => admin.cluster('MYID')));
    await until(async () => {
      const lists = await Promise.all(this.nodes.map(({ admin }) => admin.cluster('NODES')));
      return lists.every((list) => ids.every((id) => String(list).includes(id)) && !/handshake/.test(String(list)));
    }, 'the meeting of nodes');
    for (const [at, { admin }] of this.nodes.entries()) {
      if (at < MASTERS) continue;
      await admin.cluster('REPLICATE', ids[at - MASTERS] as string);
    }
    await until(() => this.#all((info) => info.includes('cluster_state:ok')), 'the cluster');
    await until(async () => {
      const links = await Promise.all(this.nodes.slice(MASTERS).map(({ admin }) => admin.info('replication')));
      return links.every((info) => info.includes('master_link_status:up'));
    }, 'replication');
    // Everybody must know of everybody's replicas, or a failover finds nobody.
    await until(async () => {
      const known = await Promise.all(this.nodes.map(({ admin }) => admin.cluster('SLOTS')));
      return known.every((ranges) => (ranges as unknown[][]).every((range) => range.length === 4));
    }, 'knowledge of replicas');
  }

  async #all(holds: (info: string) => boolean): Promise<boolean> {
    const infos = await Promise.all(this.nodes.map(({ admin }) => admin.cluster('INFO')));
    return infos.every((info) => holds(info));
  }
}

/** One master, one replica, and a Sentinel that decides alone. */
export class RedisSentinels implements AsyncDisposable {
  readonly master: RedisServer;
  readonly replica: RedisServer;
  readonly sentinel: RedisServer;

  private constructor(master: RedisServer, replica: RedisServer, sentinel: RedisServer) {
    this.master = master;
    this.replica = replica;
    this.sentinel = sentinel;
  }

  static async start(): Promise<RedisSentinels> {
    await using started = new AsyncDisposableStack();
    const master = started.use(await RedisServer.start());
    const replicaOf = ['--replicaof', master.host, String(master.port)];
    const replica = started.use(await RedisServer.start({ settings: replicaOf }));
    const sentinel = started.use(await RedisServer.start({ isSentinel: true }));
    await sentinel.admin.call('SENTINEL', 'MONITOR', 'mymaster', master.host, master.port, 1);
    await sentinel.admin.call('SENTINEL', 'SET', 'mymaster', 'down-after-milliseconds', 500);
    await sentinel.admin.call('SENTINEL', 'SET', 'mymaster', 'failover-timeout', 3000);
    await until(async () => {
      const known = await sentinel.admin.call('SENTINEL', 'REPLICAS', 'mymaster');
      const link = await replica.admin.info('replication');
      return Array.isArray(known) && known.length === 1 && link.includes('master_link_status:up');
    }, 'the Sentinel’s knowledge of the replica');
    started.move();
    return new RedisSentinels(master, replica, sentinel);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.sentinel, this.replica, this.master].map((each) => each[Symbol.asyncDispose]()));
  }
}

function settingsOf(busPort: number): readonly string[] {
  return [
    ...['--cluster-enabled', 'yes', '--cluster-port', String(busPort)],
    ...['--cluster-node-timeout', String(NODE_TIMEOUT_MS), '--cluster-replica-validity-factor', '0'],
    // A replica counts once it has got something from its master.
    ...['--repl-ping-replica-period', '1'],
  ];
}
